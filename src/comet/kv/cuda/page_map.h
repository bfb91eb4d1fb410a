// Where a value lies in a page of the cache on a GPU: the one description that append writes by,
// attention reads by and tests decode by. Includable by host and device files; README.md beside it
// has the pictures. A page has the bytes of KvFormat::page_bytes: [kv_head][K part | V part].
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace comet::kv {

enum class PageFormat : int { kKv16, kKv8, kKv4 };

constexpr int kPageRows = 32;  // tokens of a page: kPageTokens

/// One part = codes | parameters of the 32 rows: nothing (kv16), s (kv8), s and m (kv4), FP16 each.
template <PageFormat kFormat, int kDim>
struct PageMap {
  static_assert(kDim == 64 || kDim == 128);
  static constexpr int kRowBytes = kFormat == PageFormat::kKv16  ? 2 * kDim
                                   : kFormat == PageFormat::kKv8 ? kDim
                                                                 : kDim / 2;
  static constexpr int kParamBytes = kFormat == PageFormat::kKv16  ? 0
                                     : kFormat == PageFormat::kKv8 ? 2
                                                                   : 4;
  static constexpr int kCodesBytes = kPageRows * kRowBytes;
  static constexpr int kPartBytes = kCodesBytes + kPageRows * kParamBytes;
  static constexpr int kHeadBytes = 2 * kPartBytes;  // K and V of one head: contiguous in a page
  static_assert(kPartBytes % 64 == 0);

  /// The byte of K's value (row, dim); kv4: its nibble is dim % 2, the low one first.
  static __host__ __device__ constexpr int key_byte(int row, int dim) {
    if constexpr (kFormat == PageFormat::kKv16) {
      return swizzled_byte(row, dim);
    } else if constexpr (kFormat == PageFormat::kKv8) {
      return dim / 64 * (kPageRows * 64) + row * 64 + dim % 64;
    } else {
      return row * kRowBytes + dim / 2;
    }
  }

  /// The byte of V's value (row, dim); kv4: its nibble is dim % 2, the low one first. Codes lie in
  /// the order of the lanes that multiply them: 16 rows · 16 dims of V^T are an A fragment of
  /// mma.m16n8k16, whose lane 4·g + t holds rows 2t, 2t + 1 and 2t + 8, 2t + 9.
  static __host__ __device__ constexpr int value_byte(int row, int dim) {
    const int eight = row / 8;
    const int t = row % 8 / 2;
    const int odd = row % 2;
    if constexpr (kFormat == PageFormat::kKv16) {
      return swizzled_byte(row, dim);
    } else if constexpr (kFormat == PageFormat::kKv8) {
      const int g = dim / 2 % 8;
      const int word = dim / 16 % 4;
      const int lane = 4 * g + t;
      return ((eight * (kDim / 64) + dim / 64) * 32 + lane) * 16 + 4 * word + 2 * odd + dim % 2;
    } else {
      const int g = dim / 4 % 8;
      const int word = dim / 32;
      const int lane = 4 * g + t;
      return (eight * 32 + lane) * (kDim / 8) + 4 * word + 2 * odd + dim % 4 / 2;
    }
  }

 private:
  /// Rows of 64 dims, 128 bytes, whose 16-byte chunk c lies at c ^ (row % 8): what ldmatrix reads
  /// without bank conflicts and wgmma calls a 128-byte swizzle.
  static __host__ __device__ constexpr int swizzled_byte(int row, int dim) {
    const int chunk = dim % 64 / 8;
    return dim / 64 * (kPageRows * 128) + row * 128 + ((chunk ^ (row % 8)) * 16) + dim % 8 * 2;
  }
};

}  // namespace comet::kv
