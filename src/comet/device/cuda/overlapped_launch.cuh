// launch_overlapped: a launch that begins while the kernel before it in the stream ends (machine
// code of sm_90: programmatic dependent launch; elsewhere it waits as any). Callers: launches of
// kernels of a few µs, of any room. Such a kernel calls prims::wait_for_previous_kernel() before it
// reads or writes anything that others may write or read, and reads what others write by plain
// loads, never as read-only data.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
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
  dim3 cluster;          // CTAs that form a cluster; above 1 only on sm_90
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

/// A shape as the driver takes it.
class LaunchConfig {
 public:
  LaunchConfig(const LaunchShape& shape, bool overlaps, bool is_clustered) {
    config_.gridDim = shape.grid;
    config_.blockDim = dim3(static_cast<unsigned>(shape.threads));
    config_.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
    config_.stream = shape.stream;
    config_.attrs = attributes_.data();
    if (overlaps) {
      cudaLaunchAttribute& attribute = attributes_[config_.numAttrs++];
      attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
      attribute.val.programmaticStreamSerializationAllowed = 1;
    }
    if (is_clustered) {
      cudaLaunchAttribute& attribute = attributes_[config_.numAttrs++];
      attribute.id = cudaLaunchAttributeClusterDimension;
      attribute.val.clusterDim = {shape.cluster.x, shape.cluster.y, shape.cluster.z};
    }
  }
  LaunchConfig(const LaunchConfig&) = delete;
  LaunchConfig& operator=(const LaunchConfig&) = delete;

  [[nodiscard]] const cudaLaunchConfig_t* get() const { return &config_; }

 private:
  std::array<cudaLaunchAttribute, 2> attributes_{};
  cudaLaunchConfig_t config_{};
};

template <typename... Params, typename... Args>
void launch_overlapped(const LaunchShape& shape, void (*kernel)(Params...), const Args&... args) {
  const bool is_clustered = shape.cluster.x * shape.cluster.y * shape.cluster.z > 1;
  const LaunchConfig config(shape, shape.overlaps && runs_sm90_code(), is_clustered);
  COMET_CUDA(cudaLaunchKernelEx(config.get(), kernel, args...));
}

/// CTAs to launch for num_ctas in clusters of `cluster`, none of which shares an SM with another
/// one: somewhat fewer than SMs are filled up with idle ones, which end when the kernel before has.
/// Else SMs that have none now get two of the next launch, which comes in meanwhile, and two on an
/// SM take twice as long.
inline int with_idle_ctas(int num_ctas, int cluster) {
  const int num_sms = device_attribute(cudaDevAttrMultiProcessorCount);
  if (num_ctas <= num_sms / 2) return num_ctas;
  return std::max(num_ctas, num_sms / cluster * cluster);
}

/// Clusters of this shape that the card holds at once.
template <typename... Params>
int count_clusters(const LaunchShape& shape, void (*kernel)(Params...)) {
  int clusters = 0;
  const LaunchConfig config(shape, false, true);
  COMET_CUDA(cudaOccupancyMaxActiveClusters(&clusters, kernel, config.get()));
  return clusters;
}

}  // namespace comet
