// The weights of a mixer's branch in a thread's registers. Callers: mixer.cu, mixer_rows.cu.
#pragma once

#include "comet/ops/inception_mixer/cuda/tile.cuh"

namespace comet::ops_cuda::mixer {

/// What a thread has before it walks. Of a kernel of 3×3 the first nine taps.
template <int kBand>
struct Taps {
  float w[kBand][2];
  float bias[2];
};

template <int kBand, bool kFlip>
__device__ __forceinline__ Taps<kBand> load_taps(const KernelWeights& weights, int num_taps,
                                                 int branch, int in_branch) {
  Taps<kBand> taps = {};
  if (!kFlip) load_weights(taps.bias, weights.bias + in_branch);
  const float* w = weights.weight + in_branch + (kFlip ? (num_taps - 1) * branch : 0);
#pragma unroll
  for (int t = 0; t < kBand; ++t) {
    if (t < num_taps) load_weights(taps.w[t], w + (kFlip ? -t : t) * branch);
  }
  return taps;
}

}  // namespace comet::ops_cuda::mixer
