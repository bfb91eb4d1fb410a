// The channels that a mixer keeps, copied (or added, for gradients) past shared memory: several
// loads of a thread on their way at once. Callers: mixer.cu, mixer_rows_backward.cu.
#pragma once

#include <cuda_bf16.h>

#include "comet/device/cuda/prims/control.cuh"
#include "comet/ops/inception_mixer/cuda/tile.cuh"

namespace comet::ops_cuda::mixer {

template <int kPiece>
struct Bits {
  uint32_t v[kPiece / 2];
};

template <int kPiece>
__device__ __forceinline__ Bits<kPiece> load_bits(const uint16_t* p) {
  if constexpr (kPiece == 8) {
    const uint4 four = *reinterpret_cast<const uint4*>(p);
    return {{four.x, four.y, four.z, four.w}};
  } else if constexpr (kPiece == 4) {
    const uint2 two = *reinterpret_cast<const uint2*>(p);
    return {{two.x, two.y}};
  } else {
    return {{*reinterpret_cast<const uint32_t*>(p)}};
  }
}

template <int kPiece>
__device__ __forceinline__ void store_bits(uint16_t* p, const Bits<kPiece>& bits) {
  if constexpr (kPiece == 8) {
    *reinterpret_cast<uint4*>(p) = make_uint4(bits.v[0], bits.v[1], bits.v[2], bits.v[3]);
  } else if constexpr (kPiece == 4) {
    *reinterpret_cast<uint2*>(p) = make_uint2(bits.v[0], bits.v[1]);
  } else {
    *reinterpret_cast<uint32_t*>(p) = bits.v[0];
  }
}

/// Two sums of BF16, each rounded once.
__device__ __forceinline__ uint32_t add_pair(uint32_t a, uint32_t b) {
  __nv_bfloat162 x, y;
  memcpy(&x, &a, sizeof(x));
  memcpy(&y, &b, sizeof(y));
  const __nv_bfloat162 sum = __hadd2(x, y);
  uint32_t bits;
  memcpy(&bits, &sum, sizeof(bits));
  return bits;
}

/// out (kAdd: +)= x in this CTA's share of the tile's pixels. A thread keeps its piece of the
/// channels; kBatch pixels of it are read before the first is written.
template <int kPiece, int kBatch, bool kAdd>
__device__ __forceinline__ void copy_pieces(uint16_t* out, const uint16_t* x,
                                            const ImageSizes& sizes, const Cut& cut,
                                            const Place& place, int num_kept) {
  const int pieces = num_kept / kPiece;
  if (pieces == 0) return;
  const int num_pixels = kOutputs * cut.tile_columns;  // those outside of the image are passed over
  const int begin = num_pixels * static_cast<int>(blockIdx.y) / cut.num_chunks;
  const int end = num_pixels * (static_cast<int>(blockIdx.y) + 1) / cut.num_chunks;
  const int num_threads = min(pieces, kMixerThreads);
  const int num_lanes = kMixerThreads / num_threads;
  const int thread = static_cast<int>(prims::thread_idx_anew());
  const int lane = thread / num_threads;
  if (lane >= num_lanes) return;
  const int64_t corner =
      place.image_at +
      (static_cast<int64_t>(place.first_row) * sizes.width + place.first_column) * sizes.channels;
  for (int piece = thread - lane * num_threads; piece < pieces; piece += num_threads) {
    const uint16_t* from = x + corner + piece * kPiece;
    uint16_t* to = out + corner + piece * kPiece;
    for (int first = begin + lane; first < end; first += kBatch * num_lanes) {
      int at[kBatch];
      Bits<kPiece> bits[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int pixel = first + i * num_lanes;
        const int row = quotient(pixel, cut.by_columns);
        const int column = pixel - row * cut.tile_columns;
        const bool exists = pixel < end && row < place.rows && column < place.columns;
        at[i] = exists ? (row * sizes.width + column) * sizes.channels : -1;
        if (at[i] >= 0) bits[i] = load_bits<kPiece>(from + at[i]);
      }
      if constexpr (kAdd) {
        Bits<kPiece> more[kBatch];
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          if (at[i] >= 0) more[i] = load_bits<kPiece>(to + at[i]);
        }
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
#pragma unroll
          for (int j = 0; j < kPiece / 2; ++j) {
            bits[i].v[j] = add_pair(bits[i].v[j], more[i].v[j]);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (at[i] >= 0) store_bits<kPiece>(to + at[i], bits[i]);
      }
    }
  }
}

/// Pieces as wide as the addresses allow.
template <bool kAdd>
__device__ __forceinline__ void copy_kept(uint16_t* out, const uint16_t* x, const ImageSizes& sizes,
                                          const Cut& cut, const Place& place, int num_kept) {
  if (cut.kept_piece == 8) {
    copy_pieces<8, kAdd ? 3 : 7, kAdd>(out, x, sizes, cut, place, num_kept);
  } else if (cut.kept_piece == 4) {
    copy_pieces<4, kAdd ? 5 : 7, kAdd>(out, x, sizes, cut, place, num_kept);
  } else {
    copy_pieces<2, kAdd ? 5 : 7, kAdd>(out, x, sizes, cut, place, num_kept);
  }
}

}  // namespace comet::ops_cuda::mixer
