// Walks over a band of 7 whole rows of pixels in shared memory and the rows around it, which the
// branches read. Outside of the image's columns there is nothing in shared memory: the walks know;
// rows outside of the image are zeros. Callers: mixer_rows.cu, mixer_slices.cu, dw_sums.cuh.
#pragma once

#include "comet/device/cuda/prims/control.cuh"
#include "comet/ops/inception_mixer/cuda/taps.cuh"
#include "comet/ops/inception_mixer/cuda/tile.cuh"

namespace comet::ops_cuda::mixer {

/// One band of 7 rows of an image.
struct Band {
  int64_t image_at = 0;  // element of the image's first pixel
  int first_row = 0;
  int rows = 0;  // in the image
};

__device__ __forceinline__ Band band_of(const ImageSizes& sizes, int bands_per_image, int tile) {
  const int image = tile / bands_per_image;
  Band band;
  band.image_at = static_cast<int64_t>(image) * sizes.height * sizes.width * sizes.channels;
  band.first_row = (tile - image * bands_per_image) * kOutputs;
  band.rows = min(kOutputs, sizes.height - band.first_row);
  return band;
}

/// Begins to copy the rows around the band that the square (one above, one below) and k×1 read:
/// [2, band − 1][width][num_channels]. x: the image's first pixel, the first of the square's
/// channels that are wanted.
template <int kBand, int kPiece, int kNumThreads>
__device__ __forceinline__ void stage_halos(uint16_t* halos, const uint16_t* x,
                                            const ImageSizes& sizes, const Divisor& by_width,
                                            int first_row, int branch, int num_channels,
                                            int thread) {
  constexpr int kHalf = kBand / 2;
  const int pieces = num_channels / kPiece;
  const int num_lanes = kNumThreads / pieces;
  const int lane = thread / pieces;
  const int within = (thread - lane * pieces) * kPiece;
  if (lane >= num_lanes) return;
#pragma unroll 2
  for (int i = lane; i < (kBand + 1) * sizes.width; i += num_lanes) {
    const int halo = quotient(i, by_width);
    const int in_band = halo - 2;
    const int square_row = halo == 0 ? -1 : kOutputs;
    const int band_row = in_band < kHalf ? in_band - kHalf : in_band - kHalf + kOutputs;
    const int row = first_row + (halo < 2 ? square_row : band_row);
    const bool exists = is_within(row, sizes.height);
    const int pixel = row * sizes.width + i - halo * sizes.width;
    const int at = pixel * sizes.channels + (halo < 2 ? 0 : 2 * branch) + within;
    copy_piece<kPiece>(halos + i * num_channels + within, x + (exists ? at : 0), exists);
  }
}

/// What a thread walks over: its channels in the block and in the rows around it.
struct Ground {
  const uint16_t* block = nullptr;
  const uint16_t* halo = nullptr;  // of its branch: the rows above
  int width = 0;
  int channels = 0;  // of a pixel of the block
  int branch = 0;    // of a pixel of the rows around it
  int gap = 0;       // elements between the rows above and those below

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
    const uint16_t* p = is_block ? ground.at(i - 1, column)
                                 : ground.halo + (i == 0 ? 0 : ground.gap) +
                                       ((i == 0 ? 0 : ground.width) + column) * ground.branch;
#pragma unroll
    for (int t = 0; t < 3; ++t) {
      float v[2];
      const int from = column + t - 1;
      load_channels_if(v, p + (t - 1) * step, is_within(from, ground.width));
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
      const bool exists = is_within(from, ground.width);
      const auto* p = ground.at(row, exists ? from : column);
      const uint32_t bits = *reinterpret_cast<const uint32_t*>(p);
      widen(v[0], v[1], exists ? bits : 0);
    } else if (i >= kHalf && i < kHalf + kOutputs) {
      load_channels(v, ground.at(i - kHalf, column));
    } else {
      const int halo = i < kHalf ? i : i - kOutputs;
      load_channels(v, ground.halo + (i < kHalf ? 0 : ground.gap) +
                           (halo * ground.width + column) * ground.branch);
    }
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      if (i - r >= 0 && i - r < kBand) use(r, i - r, v);
    }
  }
}

/// A walker's first output and how many of them exist.
__device__ __forceinline__ Walk walk_of_rows(Branch branch, int walker, int segments, int rows,
                                             int width) {
  if (branch != kBandW) return {0, walker, rows};
  const int row = walker / segments;
  const int column = (walker - row * segments) * kOutputs;
  return {row, column, min(kOutputs, width - column)};
}

/// Calls use(step, products) of a branch: how far a walker's outputs lie apart in the block, and
/// the products of a walk, products(walk, use(output row, tap, v)).
template <int kBand, typename Use>
__device__ __forceinline__ void with_walks(Branch branch, const Ground& ground, const Use& use) {
  const int row_step = ground.width * ground.channels;
  if (branch == kSquare) {
    use(row_step,
        [&](const Walk& walk, const auto& add) { walk_square(ground, walk.column, add); });
  } else if (branch == kBandW) {
    use(ground.channels, [&](const Walk& walk, const auto& add) {
      walk_line<kBand, true>(ground, walk.row, walk.column, add);
    });
  } else {
    use(row_step, [&](const Walk& walk, const auto& add) {
      walk_line<kBand, false>(ground, 0, walk.column, add);
    });
  }
}

__device__ __forceinline__ uint32_t* word(uint16_t* p) { return reinterpret_cast<uint32_t*>(p); }

}  // namespace comet::ops_cuda::mixer
