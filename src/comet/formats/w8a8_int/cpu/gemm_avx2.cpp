#include <immintrin.h>

#include "comet/formats/w8a8_int/cpu/gemm_body.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

/// |w| is the unsigned operand of maddubs and its sign moves to x: 2 · 128 · 127 fits int16.
struct Avx2 {
  using Reg = __m256i;
  static constexpr int64_t kStepBytes = 32;

  static Reg zero() { return _mm256_setzero_si256(); }
  static __m256i load_weights(const int8_t* w) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
  }
  static Reg step(Reg sum, __m256i w, const int8_t* x) {
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(codes, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static int32_t total(Reg sum, int32_t /*x_sum*/) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    s = _mm_add_epi32(s, _mm_unpackhi_epi64(s, s));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 1)));
  }
};

}  // namespace

void gemm_rows_avx2(const GemmArgs& args, int64_t row_begin, int64_t row_end) {
  gemm_rows<Avx2>(args, row_begin, row_end);
}

}  // namespace comet::formats::w8a8_int::cpu
