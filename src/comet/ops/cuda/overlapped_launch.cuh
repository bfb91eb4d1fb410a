// launch_overlapped: a launch that begins while the kernel before it in the stream ends (sm_90:
// programmatic dependent launch; below it waits as any). Callers: kernels over images of a few µs.
// The kernel calls prims::wait_for_previous_kernel() before it reads or writes anything that others
// may write or read, and reads what others write by plain loads, never as read-only data.
#pragma once

#include <cuda_runtime.h>

#include "comet/device/cuda/cuda_check.h"

namespace comet::ops_cuda {

struct LaunchShape {
  dim3 grid;
  int threads = 0;
  int shared_bytes = 0;
  cudaStream_t stream = nullptr;
};

inline int device_attribute(cudaDeviceAttr attribute) {
  int device = 0;
  int value = 0;
  COMET_CUDA(cudaGetDevice(&device));
  COMET_CUDA(cudaDeviceGetAttribute(&value, attribute, device));
  return value;
}

template <typename... Params, typename... Args>
void launch_overlapped(const LaunchShape& shape, void (*kernel)(Params...), const Args&... args) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = shape.stream;
  config.attrs = &attribute;
  config.numAttrs = device_attribute(cudaDevAttrComputeCapabilityMajor) >= 9 ? 1 : 0;
  COMET_CUDA(cudaLaunchKernelEx(&config, kernel, args...));
}

}  // namespace comet::ops_cuda
