// The mask of a whole warp, for shuffles and votes. Callers: kernels of this room.
#pragma once

#include <cstdint>

namespace comet::kv {

constexpr uint32_t kAllLanes = 0xFFFFFFFF;

}  // namespace comet::kv
