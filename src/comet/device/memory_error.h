// What an exception is, beside a CudaError, when a device's memory is out: for those who can say
// what would fit. The process can go on. Callers: apps; thrown by the GPU's allocator.
#pragma once

#include <cstdint>

namespace comet {

struct OutOfDeviceMemory {
  int64_t asked_bytes = 0;
  int64_t free_bytes = 0;
};

}  // namespace comet
