// Four sums of a lane added to four others. Callers: ends of products, where parts of a tile from
// several warpgroups or CTAs become one.
#pragma once

namespace comet::formats::cuda {

/// Four: float4, int4.
template <class Four>
__device__ __forceinline__ void add_four(Four& total, const Four& part) {
  total.x += part.x;
  total.y += part.y;
  total.z += part.z;
  total.w += part.w;
}

}  // namespace comet::formats::cuda
