// Gradients of a mixer's weights in a thread's registers, how a CTA adds those of its threads, and
// the walks over whole rows that make them and dx at once. Callers: mixer_backward.cu,
// mixer_rows_backward.cu, mixer_stream_backward.cu.
#pragma once

#include "comet/ops/inception_mixer/cuda/rows.cuh"
#include "comet/ops/inception_mixer/cuda/taps.cuh"
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

/// The channels that a thread's sums are of.
struct SummedChannels {
  int num_pairs = 0;  // of a branch in the CTA
  int branch = 0;     // channels of a branch
  int in_branch = 0;  // the thread's first
};

/// Adds the sums of the threads that share channels, in the order of their slots. `shared` holds
/// (kBand + 1) · 2 floats a thread; sync: a barrier of the threads that have sums.
template <int kBand, int kThreadsOfBranch = kBranchThreads, typename Sync>
__device__ __forceinline__ void write_partials(const Sums<kBand>& sums, const Role& role,
                                               const SummedChannels& channels, float* shared,
                                               float* partials, const Sync& sync) {
  constexpr int kNumThreads = 3 * kThreadsOfBranch;
  sync();
  float* mine = shared + threadIdx.x;
#pragma unroll
  for (int t = 0; t <= kBand; ++t) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      mine[(t * 2 + i) * kNumThreads] = t < kBand ? sums.taps[t < kBand ? t : 0][i] : sums.bias[i];
    }
  }
  sync();
  if (!role.is_active) return;
  const int num_taps = role.branch == kSquare ? 9 : kBand;
  const int first_sum =
      role.branch == kSquare ? 0 : kSquareSums + (static_cast<int>(role.branch) - 1) * (kBand + 1);
  for (int e = role.slot; e <= num_taps; e += role.num_slots) {  // the kernel's taps, then the bias
    const int t = e == num_taps ? kBand : num_taps - 1 - e;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float* from = shared + (t * 2 + i) * kNumThreads +
                          static_cast<int>(role.branch) * kThreadsOfBranch + role.within / 2;
      float sum = 0.0F;
      for (int slot = 0; slot < role.num_slots; ++slot) sum += from[slot * channels.num_pairs];
      partials[(first_sum + e) * channels.branch + channels.in_branch + i] = sum;
    }
  }
}

/// A band as a thread sees it: its channels of dy, of x, of where dx goes, and of what is added.
struct View {
  Ground dy;
  const uint16_t* x = nullptr;
  uint16_t* dx = nullptr;
  const uint16_t* old = nullptr;
  int channels = 0;      // of a pixel of x and dx
  int old_channels = 0;  // of a pixel of old
  int rows = 0;
  int segments = 0;
};

__device__ __forceinline__ uint32_t word_at(const uint16_t* p) {
  return *reinterpret_cast<const uint32_t*>(p);
}

/// All walkers of a thread. products(walk, use): rows.cuh's. kAlong: those of 1×k. kIsFar: old is
/// in memory, so it is read on the way; else it is where dx goes.
template <int kTaps, bool kAlong, bool kIsFar, int kBand, typename Products>
__device__ __forceinline__ void add_gradients(Sums<kBand>& sums, const Taps<kBand>& taps,
                                              const View& view, const Role& role,
                                              const Products& products) {
  const Ground& dy = view.dy;
  const int num = kAlong ? view.rows * view.segments : dy.width;
  const int step = kAlong ? view.channels : dy.width * view.channels;
#pragma unroll 1
  for (int walker = role.slot; walker < num; walker += role.num_slots) {
    const Walk walk =
        walk_of_rows(kAlong ? kBandW : kBandH, walker, view.segments, view.rows, dy.width);
    const int at = (walk.row * dy.width + walk.column) * view.channels;
    float x[kOutputs][2];
    float out[kOutputs][2];
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      const bool exists = !kAlong || r < walk.num_outputs;  // zeros behind the last row
      const uint32_t bits = word_at(view.x + at + (exists ? r * step : 0));
      widen(x[r][0], x[r][1], exists ? bits : 0);
      out[r][0] = out[r][1] = 0.0F;
    }
    uint32_t old[kOutputs];
    const auto load_old = [&] {
      const int old_step = kAlong ? view.old_channels : dy.width * view.old_channels;
      const uint16_t* from = view.old + (walk.row * dy.width + walk.column) * view.old_channels;
#pragma unroll
      for (int r = 0; r < kOutputs; ++r) {  // the first again where there is none
        old[r] = word_at(from + (r < walk.num_outputs ? r * old_step : 0));
      }
    };
    products(walk, [&](int r, int tap, const float(&v)[2]) {
      if (kIsFar && r == kOutputs - 1 && tap == 3) load_old();
      fma_channels(out[r], taps.w[tap], v);
      fma_channels(sums.taps[tap], x[r], v);
      if (tap != kTaps / 2) return;  // dy where output r is
      sums.bias[0] += v[0];
      sums.bias[1] += v[1];
    });
    uint16_t* to = view.dx + at;
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {  // nobody else reads or writes these
      if (r >= walk.num_outputs) continue;
      float low, high;
      widen(low, high, kIsFar ? old[r] : word_at(to + r * step));
      *reinterpret_cast<uint32_t*>(to + r * step) =
          prims::bf16x2_of(out[r][0] + low, out[r][1] + high);
    }
  }
}

template <bool kIsFar = false, int kBand>
__device__ __forceinline__ void walk_band(Sums<kBand>& sums, const Taps<kBand>& taps,
                                          const View& view, const Role& role) {
  if (role.branch == kSquare) {
    add_gradients<9, false, kIsFar>(sums, taps, view, role, [&](const Walk& walk, const auto& use) {
      walk_square(view.dy, walk.column, use);
    });
  } else if (role.branch == kBandW) {
    add_gradients<kBand, true, kIsFar>(
        sums, taps, view, role, [&](const Walk& walk, const auto& use) {
          walk_line<kBand, true>(view.dy, walk.row, walk.column, use);
        });
  } else {
    add_gradients<kBand, false, kIsFar>(sums, taps, view, role,
                                        [&](const Walk& walk, const auto& use) {
                                          walk_line<kBand, false>(view.dy, 0, walk.column, use);
                                        });
  }
}

}  // namespace comet::ops_cuda::mixer
