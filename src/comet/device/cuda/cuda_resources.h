// What a Context has on a CUDA device: one stream, its memory, and what the card can do. Owned by
// Runtime; kernels are launched on `stream`, and nothing else is used. Host files of the CUDA
// backend include this; others see a forward declaration (ops/context.h).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "comet/base/result.h"
#include "comet/device/device.h"
#include "comet/tensor/tensor.h"

namespace comet {

struct CublasLt;  // device/cuda/cublaslt.h

struct CudaResources {
  CudaResources() = default;
  CudaResources(const CudaResources&) = delete;
  CudaResources& operator=(const CudaResources&) = delete;
  ~CudaResources();

  int device_idx = 0;
  int sm = 0;  // 80, 86, 89, 90
  int num_sms = 0;
  cudaStream_t stream = nullptr;
  std::shared_ptr<CublasLt> cublaslt;  // opened by the first who asks: cublaslt_of()
};

/// Opens GPU device_idx: no driver, one that is too old, or a card before sm_80 is an error that
/// says so. Fills the GPU's part of `caps`.
Result<std::shared_ptr<CudaResources>> open_cuda(int device_idx, Caps& caps);

}  // namespace comet
