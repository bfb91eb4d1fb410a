#include <immintrin.h>

#include "comet/formats/dense/cpu/gemm_body.h"

namespace comet::formats::dense_cpu {
namespace {

struct Avx512 {
  using Reg = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kTokens = 6;  // 4 × 6 sums, 6 inputs and 1 weight in 32 registers

  static Reg zero() { return _mm512_setzero_ps(); }
  static Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Reg v) { _mm512_storeu_ps(p, v); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static float sum(Reg v) { return _mm512_reduce_add_ps(v); }
  static Reg half(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static void bf16_pair(const uint16_t* p, Reg& even, Reg& odd) {
    const __m512i pairs = _mm512_loadu_si512(p);
    even = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
  }
  /// s.eeee.mmm, as the FP16 s.0eeee.mmm0000000, is the same number times 2⁻⁸, subnormals included.
  static void e4m3_pair(const uint8_t* p, Reg& even, Reg& odd) {
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i mask = _mm256_set1_epi16(static_cast<short>(0xBF80));
    even =
        _mm512_cvtph_ps(_mm256_and_si256(_mm256_srai_epi16(_mm256_slli_epi16(pairs, 8), 1), mask));
    odd = _mm512_cvtph_ps(_mm256_and_si256(_mm256_srai_epi16(pairs, 1), mask));
  }
};

}  // namespace

const GemmIsa kAvx512Isa{arrange_row<Avx512>, arrange_e4m3_row<Avx512>, gemm_rows<Avx512>};

}  // namespace comet::formats::dense_cpu
