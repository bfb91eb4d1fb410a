// Weights from the host (a mapped checkpoint above all) to device memory: the pool's threads fault
// and copy pages into one page-locked buffer while the other one travels. Callers: copy_to_device,
// the formats' prepare.
#pragma once

#include <cstddef>

#include "comet/device/cuda/cuda_resources.h"
#include "comet/device/thread_pool.h"

namespace comet {

/// Copies num_bytes to device memory, in the order of the stream. What comes from the host has been
/// read when this returns; `source` may lie on the device too, and must then outlive the copy.
void upload(ThreadPool& pool, CudaResources& cuda, void* device, const void* source,
            size_t num_bytes);

}  // namespace comet
