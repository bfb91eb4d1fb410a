// Matrices in device memory for the host files of this folder: allocation and copies. Copies are
// ordered by the context's stream; what reads host memory has done so when it returns.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/ops/context.h"

namespace comet::quant::cuda {

/// `count` elements of device memory, uninitialized; running out throws CudaError with the bytes
/// asked for and the bytes free.
template <typename T>
class DeviceValues {
 public:
  DeviceValues() = default;
  DeviceValues(Context& ctx, int64_t count)
      : ctx_(&ctx),
        storage_(std::make_unique<Storage>(ctx.memory, static_cast<size_t>(count) * sizeof(T))) {}
  DeviceValues(Context& ctx, const std::vector<T>& values)
      : DeviceValues(ctx, static_cast<int64_t>(values.size())) {
    copy_from(values.data(), static_cast<int64_t>(values.size()));
  }

  /// nullptr where nothing was allocated.
  [[nodiscard]] T* get() const {
    return storage_ == nullptr ? nullptr : reinterpret_cast<T*>(storage_->data());
  }
  void set_zero() {
    COMET_CUDA(cudaMemsetAsync(storage_->data(), 0, storage_->bytes(), ctx_->cuda->stream));
  }
  void copy_from(const T* host, int64_t count) { copy(get(), host, count, cudaMemcpyHostToDevice); }
  void copy_to(T* host, int64_t count) const { copy(host, get(), count, cudaMemcpyDeviceToHost); }
  /// Waits for the launches that use it.
  void free() {
    if (storage_ == nullptr) return;
    COMET_CUDA(cudaStreamSynchronize(ctx_->cuda->stream));
    storage_.reset();
  }

 private:
  void copy(T* to, const T* from, int64_t count, cudaMemcpyKind kind) const {
    COMET_CUDA(cudaMemcpyAsync(to, from, static_cast<size_t>(count) * sizeof(T), kind,
                               ctx_->cuda->stream));
    COMET_CUDA(cudaStreamSynchronize(ctx_->cuda->stream));
  }

  Context* ctx_ = nullptr;
  std::unique_ptr<Storage> storage_;
};

}  // namespace comet::quant::cuda
