// What tests of CUDA kernels share: the GPU if there is one, arrays on it, and poison. Callers:
// *_cuda_test.cpp.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"

namespace comet::testing {

/// The machine's first GPU, or nothing: GTEST_SKIP() then.
inline std::shared_ptr<CudaResources> open_gpu() {
  Caps caps;
  auto gpu = open_cuda(0, caps);
  return gpu.ok() ? *gpu : nullptr;
}

/// `count` elements of device memory, every byte 0xFF until written.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) {
    COMET_CUDA(cudaMalloc(reinterpret_cast<void**>(&data_), bytes() == 0 ? 1 : bytes()));
    COMET_CUDA(cudaMemset(data_, 0xFF, bytes()));
    COMET_CUDA(cudaDeviceSynchronize());
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    COMET_CUDA(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice));
    COMET_CUDA(cudaDeviceSynchronize());  // streams of the tests do not wait for the default one
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }

  [[nodiscard]] T* get() const { return data_; }
  [[nodiscard]] size_t bytes() const { return count_ * sizeof(T); }
  /// Waits for the device, then copies.
  [[nodiscard]] std::vector<T> to_host() const {
    std::vector<T> values(count_);
    COMET_CUDA(cudaDeviceSynchronize());
    COMET_CUDA(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

}  // namespace comet::testing
