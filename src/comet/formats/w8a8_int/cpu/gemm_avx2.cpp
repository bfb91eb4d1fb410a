#include <immintrin.h>

#include "comet/formats/w8a8_int/cpu/gemm_body.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

/// Both operands as int16: pmaddwd takes 2 operations for 16 products, where |w| as the unsigned
/// operand of maddubs takes 4 for 32 and heeds the bound of int16.
struct Avx2 {
  using Reg = __m256i;
  using Code = int16_t;
  using Stored = int16_t;
  static constexpr int64_t kStep = 16;
  static constexpr int kTokens = 2;  // 4 × 2 sums, 2 inputs, 1 weight and products

  static Reg zero() { return _mm256_setzero_si256(); }
  static Reg load_codes(const int16_t* x) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  }
  static Reg load_weights(const int8_t* w) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
  }
  static Reg load_strip(const int16_t* w) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
  }
  static void store_strip(int16_t* p, Reg w) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), w);
  }
  static Reg mul_add(Reg sum, Reg w, Reg x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(w, x));
  }
  static Reg merge_pairs(Reg a, Reg b) {
    return _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
  }
  static void totals(Reg a, Reg b, Reg c, Reg d, uint32_t* out) {
    const Reg ab = merge_pairs(a, b);
    const Reg cd = merge_pairs(c, d);
    const Reg lanes =
        _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
    const __m128i sums =
        _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), sums);
  }
  static int32_t exact(uint32_t total, int32_t /*x_sum*/) { return static_cast<int32_t>(total); }
};

}  // namespace

const GemmIsa kAvx2Isa{true, gemm_rows<Avx2>};

}  // namespace comet::formats::w8a8_int::cpu
