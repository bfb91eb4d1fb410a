// A page of kv8 or kv4 as FP16 in shared memory, in the layout of a kv16 page (page_map.h): what
// prefill's products read. Caller: prefill.cu. x̂ = s·u + m in one rounding to FP16.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "comet/device/cuda/prims/access.cuh"
#include "comet/kv/cuda/page_map.h"

namespace comet::kv {

__device__ __forceinline__ __half2 as_half2(uint32_t bits) {
  return *reinterpret_cast<const __half2*>(&bits);
}
__device__ __forceinline__ uint32_t as_bits(__half2 pair) {
  return *reinterpret_cast<const uint32_t*>(&pair);
}
/// The low, or the high, halves of two pairs.
__device__ __forceinline__ uint32_t low_halves(uint32_t a, uint32_t b) {
  return __byte_perm(a, b, 0x5410);
}
__device__ __forceinline__ uint32_t high_halves(uint32_t a, uint32_t b) {
  return __byte_perm(a, b, 0x7632);
}

/// s and m of two rows (or of one, twice); rows that nobody wrote count as zeros.
struct RowPair {
  __half2 scale;
  __half2 low;
};

template <PageFormat kFormat, int kDim>
__device__ __forceinline__ RowPair row_pair(const uint8_t* part, int first, int second,
                                            int num_rows) {
  using Map = PageMap<kFormat, kDim>;
  const auto* params = reinterpret_cast<const __half*>(part + Map::kCodesBytes);
  constexpr int kPerRow = Map::kParamBytes / 2;
  const __half zero = __ushort_as_half(0);
  const auto param = [&](int row, int i) {
    return row < num_rows ? params[row * kPerRow + i] : zero;
  };
  RowPair pair;
  pair.scale = __halves2half2(param(first, 0), param(second, 0));
  pair.low = pair.scale;
  if constexpr (kFormat == PageFormat::kKv4) {
    pair.low = __halves2half2(param(first, 1), param(second, 1));
  }
  return pair;
}

constexpr int kAndThenOr = (0xF0 & 0xCC) | 0xAA;  // lop3: (a & b) | c
constexpr uint32_t kMagic = 0x64006400;           // two FP16 1024, of ulp 1

/// Two codes of kv8, chosen by a __byte_perm selector, times their scales.
template <uint32_t kSelector>
__device__ __forceinline__ uint32_t bytes_to_half(uint32_t word, const RowPair& rows) {
  const __half2 q = __hadd2(as_half2(__byte_perm(word, kMagic, kSelector)), as_half2(0xE480E480));
  return as_bits(__hmul2(q, rows.scale));  // −1152 makes 1024 + 128 + q to q
}

/// The codes of kv4 in nibbles 2·kByte + kHigh of each half of the word.
template <int kByte, bool kHigh>
__device__ __forceinline__ uint32_t nibbles_to_half(uint32_t word, const RowPair& rows) {
  const uint32_t w = word >> (8 * kByte);
  __half2 u;
  if constexpr (kHigh) {  // (1024 + 16·u) / 16 − 64
    u = __hfma2(as_half2(prims::lop3<kAndThenOr>(w, 0x00F000F0U, kMagic)), as_half2(0x2C002C00),
                as_half2(0xD400D400));
  } else {
    u = __hadd2(as_half2(prims::lop3<kAndThenOr>(w, 0x000F000FU, kMagic)), as_half2(0xE400E400));
  }
  return as_bits(__hfma2(u, rows.scale, rows.low));
}

template <int kDim>
__device__ __forceinline__ uint8_t* wide_at(uint8_t* part, int row, int dim) {
  return part + PageMap<PageFormat::kKv16, kDim>::key_byte(row, dim);
}

/// Word i of the page's K codes: neighbouring dims of one row.
template <PageFormat kFormat, int kDim>
__device__ __forceinline__ void expand_key_word(uint8_t* wide, const uint8_t* part, int i,
                                                int num_rows) {
  using Map = PageMap<kFormat, kDim>;
  const uint32_t word = reinterpret_cast<const uint32_t*>(part)[i];
  if constexpr (kFormat == PageFormat::kKv8) {
    const int row = i / 16 % kPageRows;
    const int dim = i / (16 * kPageRows) * 64 + i % 16 * 4;
    const RowPair rows = row_pair<kFormat, kDim>(part, row, row, num_rows);
    *reinterpret_cast<uint2*>(wide_at<kDim>(wide, row, dim)) =
        make_uint2(bytes_to_half<0x5150>(word, rows), bytes_to_half<0x5352>(word, rows));
  } else {
    const int row = i / (Map::kRowBytes / 4);
    const int dim = i % (Map::kRowBytes / 4) * 8;
    const RowPair rows = row_pair<kFormat, kDim>(part, row, row, num_rows);
    const uint32_t a = nibbles_to_half<0, false>(word, rows);  // dims 0, 4
    const uint32_t b = nibbles_to_half<0, true>(word, rows);   // 1, 5
    const uint32_t c = nibbles_to_half<1, false>(word, rows);  // 2, 6
    const uint32_t d = nibbles_to_half<1, true>(word, rows);   // 3, 7
    *reinterpret_cast<uint4*>(wide_at<kDim>(wide, row, dim)) =
        make_uint4(low_halves(a, b), low_halves(c, d), high_halves(a, b), high_halves(c, d));
  }
}

/// Word i of the page's V codes: neighbouring dims of two neighbouring rows.
template <PageFormat kFormat, int kDim>
__device__ __forceinline__ void expand_value_word(uint8_t* wide, const uint8_t* part, int i,
                                                  int num_rows) {
  const uint32_t word = reinterpret_cast<const uint32_t*>(part)[i];
  if constexpr (kFormat == PageFormat::kKv8) {
    const int lane = i / 4 % 32;
    const int block = i / 128;  // eight · (kDim / 64) + half of the dims
    const int row = block / (kDim / 64) * 8 + lane % 4 * 2;
    const int dim = block % (kDim / 64) * 64 + i % 4 * 16 + lane / 4 * 2;
    const RowPair rows = row_pair<kFormat, kDim>(part, row, row + 1, num_rows);
    const uint32_t a = bytes_to_half<0x5250>(word, rows);
    const uint32_t b = bytes_to_half<0x5351>(word, rows);
    *reinterpret_cast<uint32_t*>(wide_at<kDim>(wide, row, dim)) = low_halves(a, b);
    *reinterpret_cast<uint32_t*>(wide_at<kDim>(wide, row + 1, dim)) = high_halves(a, b);
  } else {
    constexpr int kLaneWords = kDim / 32;
    const int lane = i / kLaneWords % 32;
    const int row = i / (32 * kLaneWords) * 8 + lane % 4 * 2;
    const int dim = i % kLaneWords * 32 + lane / 4 * 4;
    const RowPair rows = row_pair<kFormat, kDim>(part, row, row + 1, num_rows);
    const uint32_t a = nibbles_to_half<0, false>(word, rows);
    const uint32_t b = nibbles_to_half<0, true>(word, rows);
    const uint32_t c = nibbles_to_half<1, false>(word, rows);
    const uint32_t d = nibbles_to_half<1, true>(word, rows);
    *reinterpret_cast<uint2*>(wide_at<kDim>(wide, row, dim)) =
        make_uint2(low_halves(a, b), low_halves(c, d));
    *reinterpret_cast<uint2*>(wide_at<kDim>(wide, row + 1, dim)) =
        make_uint2(high_halves(a, b), high_halves(c, d));
  }
}

/// A head's K and V of one page, by all threads of the CTA: thread `thread` of num_threads.
template <PageFormat kFormat, int kDim>
__device__ __forceinline__ void expand_page(uint8_t* wide, const uint8_t* coded, int num_rows,
                                            int thread, int num_threads) {
  using Map = PageMap<kFormat, kDim>;
  using Wide = PageMap<PageFormat::kKv16, kDim>;
  for (int i = thread; i < Map::kCodesBytes / 4; i += num_threads) {
    expand_key_word<kFormat, kDim>(wide, coded, i, num_rows);
    expand_value_word<kFormat, kDim>(wide + Wide::kPartBytes, coded + Map::kPartBytes, i, num_rows);
  }
}

}  // namespace comet::kv
