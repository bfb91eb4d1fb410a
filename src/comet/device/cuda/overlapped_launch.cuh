// launch_overlapped: a launch that begins while the kernel before it in the stream ends (machine
// code of sm_90: programmatic dependent launch; elsewhere it waits as any). Callers: launches of
// kernels of a few µs, of any room. Such a kernel calls prims::wait_for_previous_kernel() before it
// reads or writes anything that others may write or read, and reads what others write by plain
// loads, never as read-only data.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <vector>

#include "comet/device/cuda/cuda_check.h"

namespace comet {

struct LaunchShape {
  dim3 grid;
  int threads = 0;
  int shared_bytes = 0;
  cudaStream_t stream = nullptr;
  bool overlaps = true;  // false: an ordinary launch
  int cluster = 1;       // CTAs along x that form a cluster; above 1 only on sm_90
};

/// Of the current device.
inline int device_attribute(cudaDeviceAttr attribute) {
  int device = 0;
  int value = 0;
  COMET_CUDA(cudaGetDevice(&device));
  COMET_CUDA(cudaDeviceGetAttribute(&value, attribute, device));
  return value;
}

/// Whether the current device runs machine code of sm_90, which has the waits and clusters: later
/// cards run the PTX of sm_80. The driver is asked once for all devices.
inline bool runs_sm90_code() {
  static const std::vector<int> majors = [] {
    int count = 0;
    COMET_CUDA(cudaGetDeviceCount(&count));
    std::vector<int> all(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) {
      COMET_CUDA(cudaDeviceGetAttribute(&all[static_cast<size_t>(i)],
                                        cudaDevAttrComputeCapabilityMajor, i));
    }
    return all;
  }();
  int device = 0;
  COMET_CUDA(cudaGetDevice(&device));
  return majors[static_cast<size_t>(device)] == 9;
}

template <typename... Params, typename... Args>
void launch_overlapped(const LaunchShape& shape, void (*kernel)(Params...), const Args&... args) {
  std::array<cudaLaunchAttribute, 2> attributes{};
  unsigned num_attributes = 0;
  if (shape.overlaps && runs_sm90_code()) {
    attributes[num_attributes].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[num_attributes++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 1) {
    attributes[num_attributes].id = cudaLaunchAttributeClusterDimension;
    attributes[num_attributes++].val.clusterDim = {static_cast<unsigned>(shape.cluster), 1, 1};
  }
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = shape.stream;
  config.attrs = attributes.data();
  config.numAttrs = num_attributes;
  COMET_CUDA(cudaLaunchKernelEx(&config, kernel, args...));
}

}  // namespace comet
