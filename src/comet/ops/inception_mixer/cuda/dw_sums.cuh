// Gradients of a mixer's weights in a thread's registers, and how a CTA adds those of its threads.
// Callers: mixer_backward.cu, mixer_rows_backward.cu.
#pragma once

#include "comet/ops/inception_mixer/cuda/tile.cuh"

namespace comet::ops_cuda::mixer {

constexpr int kSquareSums = 10;  // 9 taps and the bias

/// The sums of one thread: taps of its branch's walk, which sees the kernel turned round (tap t of
/// the walk is tap num − 1 − t of the kernel), and the bias.
template <int kBand>
struct Sums {
  float taps[kBand][2];
  float bias[2];
};

/// Adds the sums of the threads that share channels, in the order of their slots. `shared` holds
/// (kBand + 1) · 2 floats a thread.
template <int kBand>
__device__ __forceinline__ void write_partials(const Sums<kBand>& sums, const Role& role,
                                               int num_pairs, int branch, int in_branch,
                                               float* shared, float* partials) {
  __syncthreads();
  float* mine = shared + threadIdx.x;
#pragma unroll
  for (int t = 0; t <= kBand; ++t) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      mine[(t * 2 + i) * kMixerThreads] =
          t < kBand ? sums.taps[t < kBand ? t : 0][i] : sums.bias[i];
    }
  }
  __syncthreads();
  if (!role.is_active) return;
  const int num_taps = role.branch == kSquare ? 9 : kBand;
  const int first_sum =
      role.branch == kSquare ? 0 : kSquareSums + (static_cast<int>(role.branch) - 1) * (kBand + 1);
  for (int e = role.slot; e <= num_taps; e += role.num_slots) {  // the kernel's taps, then the bias
    const int t = e == num_taps ? kBand : num_taps - 1 - e;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float* from = shared + (t * 2 + i) * kMixerThreads +
                          static_cast<int>(role.branch) * kBranchThreads + role.within / 2;
      float sum = 0.0F;
      for (int slot = 0; slot < role.num_slots; ++slot) sum += from[slot * num_pairs];
      partials[(first_sum + e) * branch + in_branch + i] = sum;
    }
  }
}

}  // namespace comet::ops_cuda::mixer
