// The weights of a mixer's branch in a thread's registers, and a walker's outputs by them. Callers:
// mixer.cu, mixer_rows.cu, mixer_slices.cu, the gradients.
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

/// The outputs of one walker in FP32: bias first, taps in order. products(use): its products.
template <int kBand, typename Products>
__device__ __forceinline__ void walker_sums(float (&sums)[kOutputs][2], const Taps<kBand>& taps,
                                            const Products& products) {
#pragma unroll
  for (int r = 0; r < kOutputs; ++r) {
    sums[r][0] = taps.bias[0];
    sums[r][1] = taps.bias[1];
  }
  products([&](int r, int tap, const float(&v)[2]) { fma_channels(sums[r], taps.w[tap], v); });
}

}  // namespace comet::ops_cuda::mixer
