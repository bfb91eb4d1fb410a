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
  /// sum() of sixteen vectors, each `stride` floats behind the one before: the same additions,
  /// halves, then quarters, eighths and pairs of lanes, of vectors that share registers.
  static void sum_16(const float* vectors, int64_t stride, float* out) {
    Reg fourths[4];  // of rows p, 4 + p, 8 + p, 12 + p, four lanes of each
    for (int p = 0; p < 4; ++p) {
      Reg halves[2];  // of two rows, eight lanes of each
      for (int i = 0; i < 2; ++i) {
        const Reg a = load(vectors + (8 * i + p) * stride);
        const Reg b = load(vectors + (8 * i + 4 + p) * stride);
        halves[i] =
            _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
      }
      fourths[p] = _mm512_add_ps(_mm512_shuffle_f32x4(halves[0], halves[1], 0x88),
                                 _mm512_shuffle_f32x4(halves[0], halves[1], 0xDD));
    }
    Reg pairs[2];
    for (int i = 0; i < 2; ++i) {
      const __m512d a = _mm512_castps_pd(fourths[2 * i]);
      const __m512d b = _mm512_castps_pd(fourths[2 * i + 1]);
      pairs[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                               _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    store(out, _mm512_add_ps(_mm512_shuffle_ps(pairs[0], pairs[1], 0x88),
                             _mm512_shuffle_ps(pairs[0], pairs[1], 0xDD)));
  }
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
