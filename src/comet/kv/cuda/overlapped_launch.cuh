// launch_overlapped: a launch that may begin while the kernel before it in the stream ends (sm_90:
// programmatic dependent launch). Callers: launch functions of append and decode. The kernel calls
// prims::wait_for_previous_kernel() before it reads or writes anything that others may write or
// read.
#pragma once

#include <cuda_runtime.h>

namespace comet::kv {

struct LaunchShape {
  dim3 grid;
  int threads = 0;
  int shared_bytes = 0;
  cudaStream_t stream = nullptr;
  bool overlaps = false;  // false: an ordinary launch
};

template <typename... Params, typename... Args>
cudaError_t launch_overlapped(const LaunchShape& shape, void (*kernel)(Params...),
                              const Args&... args) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = shape.stream;
  config.attrs = &attribute;
  config.numAttrs = shape.overlaps ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, args...);
}

}  // namespace comet::kv
