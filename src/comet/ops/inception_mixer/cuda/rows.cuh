// Walks over a block of 7 whole rows of pixels in shared memory and the rows around it, which the
// branches read. Outside of the image's columns there is nothing in shared memory: the walks know.
// Caller: mixer_rows.cu.
#pragma once

#include "comet/ops/inception_mixer/cuda/taps.cuh"
#include "comet/ops/inception_mixer/cuda/tile.cuh"

namespace comet::ops_cuda::mixer {

struct RowsCut {
  int32_t bands_per_image = 0;
  int32_t num_tiles = 0;
  int32_t piece = 0;      // channels that a copy of a halo takes: 2, 4 or 8
  int32_t segments = 0;   // walkers of 1×k in a row
  int32_t halo_at = 0;    // elements of shared memory
  int32_t square_at = 0;  // outputs [7][width][branch]
  int32_t band_w_at = 0;  // outputs [7][7 · segments][branch]
  Divisor by_width;
  Divisor by_channels;
};

/// Begins to copy the rows around the block that the square (one above, one below) and k×1 read. x:
/// the image's first pixel, the square's first channel.
template <int kBand, int kPiece>
__device__ __forceinline__ void stage_halos(uint16_t* halos, const uint16_t* x,
                                            const ImageSizes& sizes, const RowsCut& cut,
                                            int first_row, int branch) {
  constexpr int kHalf = kBand / 2;
  const int pieces = branch / kPiece;
  const int num_lanes = kMixerThreads / pieces;
  const int lane = static_cast<int>(threadIdx.x) / pieces;
  const int within = (static_cast<int>(threadIdx.x) - lane * pieces) * kPiece;
  if (lane >= num_lanes) return;
#pragma unroll 2
  for (int i = lane; i < (kBand + 1) * sizes.width; i += num_lanes) {
    const int halo = quotient(i, cut.by_width);
    const int in_band = halo - 2;
    const int square_row = halo == 0 ? -1 : kOutputs;
    const int band_row = in_band < kHalf ? in_band - kHalf : in_band - kHalf + kOutputs;
    const int row = first_row + (halo < 2 ? square_row : band_row);
    const bool exists = static_cast<unsigned>(row) < static_cast<unsigned>(sizes.height);
    const int pixel = row * sizes.width + i - halo * sizes.width;
    const int at = pixel * sizes.channels + (halo < 2 ? 0 : 2 * branch) + within;
    copy_piece<kPiece>(halos + i * branch + within, x + (exists ? at : 0), exists);
  }
}

/// What a thread walks over: its channels in the block and in the rows around it.
struct Ground {
  const uint16_t* block = nullptr;
  const uint16_t* halo = nullptr;  // of its branch
  int width = 0;
  int channels = 0;
  int branch = 0;

  [[nodiscard]] __device__ __forceinline__ const uint16_t* at(int row, int column) const {
    return block + (row * width + column) * channels;
  }
};

/// Products of the square at `column`: use(output row, tap, v).
template <typename Use>
__device__ __forceinline__ void walk_square(const Ground& ground, int column, const Use& use) {
#pragma unroll
  for (int i = 0; i < kOutputs + 2; ++i) {
    const bool is_block = i > 0 && i <= kOutputs;
    const int step = is_block ? ground.channels : ground.branch;
    const uint16_t* p = is_block
                            ? ground.at(i - 1, column)
                            : ground.halo + ((i == 0 ? 0 : ground.width) + column) * ground.branch;
#pragma unroll
    for (int t = 0; t < 3; ++t) {
      float v[2];
      const int from = column + t - 1;
      load_channels_if(v, p + (t - 1) * step, from >= 0 && from < ground.width);
#pragma unroll
      for (int r = 0; r < kOutputs; ++r) {
        if (i - r >= 0 && i - r < 3) use(r, 3 * (i - r) + t, v);
      }
    }
  }
}

/// Products of 1×k (kAlong) from (row, column) or of k×1 down `column`.
template <int kBand, bool kAlong, typename Use>
__device__ __forceinline__ void walk_line(const Ground& ground, int row, int column,
                                          const Use& use) {
  constexpr int kHalf = kBand / 2;
#pragma unroll
  for (int i = 0; i < kBand + kOutputs - 1; ++i) {
    float v[2];
    if constexpr (kAlong) {  // a load each, then zeros: a load that may not be is a branch
      const int from = column + i - kHalf;
      const bool exists = static_cast<unsigned>(from) < static_cast<unsigned>(ground.width);
      const auto* p = ground.at(row, exists ? from : column);
      const uint32_t bits = *reinterpret_cast<const uint32_t*>(p);
      widen(v[0], v[1], exists ? bits : 0);
    } else if (i >= kHalf && i < kHalf + kOutputs) {
      load_channels(v, ground.at(i - kHalf, column));
    } else {
      const int halo = i < kHalf ? i : i - kOutputs;
      load_channels(v, ground.halo + (halo * ground.width + column) * ground.branch);
    }
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      if (i - r >= 0 && i - r < kBand) use(r, i - r, v);
    }
  }
}

/// All outputs of a thread. products(walker, use); old(walker, r): bits of two channels that are
/// added (kAdd), on their way while it walks; put(walker, r, bits).
template <int kBand, bool kAdd, typename Products, typename Old, typename Put>
__device__ __forceinline__ void make_outputs(const Taps<kBand>& taps, const Role& role, int num,
                                             const Products& products, const Old& old,
                                             const Put& put) {
#pragma unroll 1
  for (int walker = role.slot; walker < num; walker += role.num_slots) {
    uint32_t more[kOutputs];
    float sums[kOutputs][2];
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      if (kAdd) more[r] = old(walker, r);
      sums[r][0] = taps.bias[0];
      sums[r][1] = taps.bias[1];
    }
    products(walker,
             [&](int r, int tap, const float(&v)[2]) { fma_channels(sums[r], taps.w[tap], v); });
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      if (kAdd) {
        float low, high;
        widen(low, high, more[r]);
        sums[r][0] += low;
        sums[r][1] += high;
      }
      put(walker, r, prims::bf16x2_of(sums[r][0], sums[r][1]));
    }
  }
}

/// A walker's first output and how many of them exist.
__device__ __forceinline__ Walk walk_of(const RowsCut& cut, Branch branch, int walker, int rows,
                                        int width) {
  if (branch != kBandW) return {0, walker, rows};
  const int row = walker / cut.segments;
  const int column = (walker - row * cut.segments) * kOutputs;
  return {row, column, min(kOutputs, width - column)};
}

}  // namespace comet::ops_cuda::mixer
