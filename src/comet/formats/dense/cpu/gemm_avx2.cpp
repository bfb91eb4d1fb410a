#include <immintrin.h>

#include "comet/formats/dense/cpu/gemm_body.h"

namespace comet::formats::dense_cpu {
namespace {

struct Avx2 {
  using Reg = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kTokens = 3;  // 4 × 3 sums, 3 inputs and 1 weight in 16 registers

  static Reg zero() { return _mm256_setzero_ps(); }
  static Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Reg v) { _mm256_storeu_ps(p, v); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static float sum(Reg v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  static Reg half(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void bf16_pair(const uint16_t* p, Reg& even, Reg& odd) {
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    even = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
    odd = _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-65536)));
  }
  /// s.eeee.mmm, as the FP16 s.0eeee.mmm0000000, is the same number times 2⁻⁸, subnormals included.
  static void e4m3_pair(const uint8_t* p, Reg& even, Reg& odd) {
    const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m128i mask = _mm_set1_epi16(static_cast<short>(0xBF80));
    even = _mm256_cvtph_ps(_mm_and_si128(_mm_srai_epi16(_mm_slli_epi16(pairs, 8), 1), mask));
    odd = _mm256_cvtph_ps(_mm_and_si128(_mm_srai_epi16(pairs, 1), mask));
  }
};

}  // namespace

const GemmIsa kAvx2Isa{arrange_row<Avx2>, arrange_e4m3_row<Avx2>, gemm_rows<Avx2>};

}  // namespace comet::formats::dense_cpu
