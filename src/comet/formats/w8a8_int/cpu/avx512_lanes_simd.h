// Lane sums of the two AVX-512 rows of w8a8-int: what both instruction sets do alike.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace comet::formats::w8a8_int::cpu {
namespace {

struct Avx512Lanes {
  using Reg = __m512i;
  static constexpr int kTokens = 4;

  static Reg zero() { return _mm512_setzero_si512(); }
  /// Every 128-bit lane: a0 + a2, b0 + b2, a1 + a3, b1 + b3.
  static Reg merge_pairs(Reg a, Reg b) {
    return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  }
  static void totals(Reg a, Reg b, Reg c, Reg d, uint32_t* out) {
    const Reg ab = merge_pairs(a, b);
    const Reg cd = merge_pairs(c, d);
    const Reg lanes =
        _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __m256i half =
        _mm256_add_epi32(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64(lanes, 1));
    const __m128i sums =
        _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), sums);
  }
};

}  // namespace
}  // namespace comet::formats::w8a8_int::cpu
