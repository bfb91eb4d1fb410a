#include <immintrin.h>

#include "comet/formats/w8a8_int/cpu/gemm_body.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

/// |w| is the unsigned operand of maddubs and its sign moves to x: 2 · 128 · 127 fits int16. Codes
/// of inputs lie in [−127, 127], so −x is one, too.
struct Avx2 {
  using Reg = __m256i;
  using Code = int8_t;
  using Stored = int8_t;
  static constexpr int64_t kStep = 32;
  static constexpr int kTokens = 2;  // 4 × 2 sums, 4 weights, an input and what becomes of both

  static Reg zero() { return _mm256_setzero_si256(); }
  static Reg load_codes(const int8_t* x) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  }
  static Reg load_weights(const int8_t* w) { return load_codes(w); }
  static Reg load_strip(const int8_t* w) { return load_codes(w); }
  static void store_strip(int8_t* p, Reg w) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), w);
  }
  static Reg mul_add(Reg sum, Reg w, Reg x) {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
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

const GemmIsa kAvx2Isa{false, gemm_rows<Avx2>};

}  // namespace comet::formats::w8a8_int::cpu
