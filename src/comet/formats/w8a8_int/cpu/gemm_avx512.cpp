#include <immintrin.h>

#include "comet/formats/w8a8_int/cpu/gemm_body.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

/// Both operands as int16: pmaddwd has no bound to heed, −128 included.
struct Avx512 {
  using Reg = __m512i;
  using Code = int16_t;
  using Stored = int16_t;
  static constexpr int64_t kStep = 32;
  static constexpr int kTokens = 4;

  static Reg zero() { return _mm512_setzero_si512(); }
  static Reg load_codes(const int16_t* x) { return _mm512_loadu_si512(x); }
  static Reg load_weights(const int8_t* w) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
  }
  static Reg load_strip(const int16_t* w) { return _mm512_load_si512(w); }
  static void store_strip(int16_t* p, Reg w) { _mm512_store_si512(p, w); }
  static Reg mul_add(Reg sum, Reg w, Reg x) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(w, x));
  }
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
  static int32_t exact(uint32_t total, int32_t /*x_sum*/) { return static_cast<int32_t>(total); }
};

}  // namespace

const GemmIsa kAvx512Isa{true, gemm_rows<Avx512>};

}  // namespace comet::formats::w8a8_int::cpu
