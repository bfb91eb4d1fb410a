// Which memory a pointer is of: weights may reach their format already on the GPU (synthetic
// models), where the host must not read them. Callers: ops/context.h's copies, formats' checks at
// load.
#pragma once

namespace comet {

/// Whether the host may read data: false for what gpu_allocator() gave.
bool is_host_memory(const void* data);

}  // namespace comet
