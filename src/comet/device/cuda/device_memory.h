// Memory that the GPU reads: its own, and page-locked memory of the host for copies that run beside
// the host. Callers: host files of the CUDA backend; the rooms above use device_allocator()
// (device/device.h). Both allocators may block the device: for load and warm-up, not for steps.
#pragma once

#include <cstddef>

#include "comet/tensor/tensor.h"

namespace comet {

struct GpuMemory {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
};

/// Of the present GPU, everything that uses it counted.
GpuMemory gpu_memory();

/// Device memory of the present GPU, 256-byte aligned. Running out throws CudaError with the bytes
/// asked for and the bytes free.
Allocator& gpu_allocator();

/// Page-locked host memory, which asynchronous copies need.
Allocator& pinned_allocator();

}  // namespace comet
