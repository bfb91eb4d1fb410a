// Tiles of depthwise convolutions of kSize × kSize: a CTA takes kRows rows × tile_columns columns
// of an image and kChunk channels, copied into shared memory with their halo (cp.async, zeros
// outside of the image); a thread makes kRows × kColumns outputs of one channel, so that its
// weights, or its sums, stay in registers and an input is used for up to kRows · kColumns products.
// Callers: depthwise.cu, depthwise_grads.cu.
#pragma once

#include "comet/device/cuda/prims/cp_async.cuh"
#include "comet/ops/cuda/bf16_vectors.cuh"
#include "comet/ops/cuda/divisor.cuh"
#include "comet/ops/cuda/image_tiles.cuh"

namespace comet::ops_cuda::depthwise {

constexpr int kRows = kTileRows;
constexpr int kColumns = 4;
constexpr int kTileThreads = 256;  // with two CTAs on an SM 128 registers each

/// How a launch is cut: blockIdx.x takes tiles, blockIdx.y kChunk channels.
/// tile_columns is a multiple of kColumns, at most kColumns · kTileThreads / kChunk.
struct Cut : TileCut {
  Divisor by_halo_columns;  // tile_columns + 2 · halo
  Divisor by_columns;       // tile_columns
};

/// Begins to copy the tile and `halo` pixels around it, [rows][columns][kChunk].
template <int kChunk>
__device__ __forceinline__ void stage(uint16_t* tile, const void* x, const ImageSizes& sizes,
                                      const Place& place, const Divisor& by_columns, int halo) {
  constexpr int kPieces = kChunk / 8;
  const int first_channel = static_cast<int>(blockIdx.y) * kChunk;
  const int within = static_cast<int>(threadIdx.x) % kPieces * 8;
  const auto* from = static_cast<const uint16_t*>(x) + place.image_at + first_channel + within;
  const bool has_channels = first_channel + within < sizes.channels;
  const int num_pixels = (kRows + 2 * halo) * by_columns.divisor;
  for (int i = static_cast<int>(threadIdx.x) / kPieces; i < num_pixels;
       i += kTileThreads / kPieces) {
    const int row_in = quotient(i, by_columns);
    const int row = place.first_row - halo + row_in;
    const int column = place.first_column - halo + i - row_in * by_columns.divisor;
    const bool exists =
        has_channels && is_within(row, sizes.height) && is_within(column, sizes.width);
    const int at = exists ? (row * sizes.width + column) * sizes.channels : 0;
    prims::cp_async_16_or_zero(tile + i * kChunk + within, exists ? from + at : x, exists);
  }
}

/// Calls use(r, c, tap, v) for all products of a thread: input v goes to output (r, c) by `tap`. p:
/// the input above and left of its first output, in the thread's channel.
template <int kSize, int kChunk, typename Use>
__device__ __forceinline__ void for_products(const uint16_t* p, int pitch, const Use& use) {
#pragma unroll
  for (int i = 0; i < kRows + kSize - 1; ++i) {
    float v[kColumns + kSize - 1];
#pragma unroll
    for (int j = 0; j < kColumns + kSize - 1; ++j) v[j] = prims::f32_of_bf16(p[j * kChunk]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (i - r < 0 || i - r >= kSize) continue;
#pragma unroll
      for (int j = 0; j < kColumns + kSize - 1; ++j) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          if (j - c >= 0 && j - c < kSize) use(r, c, (i - r) * kSize + j - c, v[j]);
        }
      }
    }
    p += pitch;
  }
}

}  // namespace comet::ops_cuda::depthwise
