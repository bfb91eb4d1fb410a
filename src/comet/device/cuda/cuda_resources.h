// What a Context has on a CUDA device: one stream, its memory, and what the card can do. Owned by
// Runtime; kernels are launched on `stream`, and nothing else is used. Host files of the CUDA
// backend include this; others see a forward declaration (ops/context.h).
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <memory>

#include "comet/base/result.h"
#include "comet/device/cuda/graph.h"
#include "comet/device/device.h"
#include "comet/tensor/tensor.h"

namespace comet {

struct CublasLt;  // device/cuda/cublaslt.h

/// Page-locked host memory through which a step's small arrays travel in one asynchronous copy.
class Staging {
 public:
  /// Memory for num_bytes, free to be written: waits for the copy before.
  void* begin(size_t num_bytes);
  /// Copies what was written to device memory, in the order of the stream.
  void send(void* device, size_t num_bytes, cudaStream_t stream);

 private:
  std::unique_ptr<Storage> host_;
  CudaEvent sent_;
};

struct CudaResources {
  CudaResources() = default;
  CudaResources(const CudaResources&) = delete;
  CudaResources& operator=(const CudaResources&) = delete;
  ~CudaResources();

  int device_idx = 0;
  int sm = 0;  // 80, 86, 89, 90
  int num_sms = 0;
  cudaStream_t stream = nullptr;
  // Words on the card, 0 between launches of kernels that count there.
  static constexpr int kNumArrivals = 1024;
  uint32_t* arrivals = nullptr;
  Staging staging;
  std::array<Staging, 2> upload_buffers;  // of upload(): one is filled while the other travels
  std::shared_ptr<CublasLt> cublaslt;     // opened by the first who asks: cublaslt_of()
};

}  // namespace comet
