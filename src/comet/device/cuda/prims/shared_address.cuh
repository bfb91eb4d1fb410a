// shared_address: a pointer into shared memory as the 32-bit address that PTX takes. Callers: the
// other files of this folder.
#pragma once

#include <cstdint>

namespace comet::prims {

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

}  // namespace comet::prims
