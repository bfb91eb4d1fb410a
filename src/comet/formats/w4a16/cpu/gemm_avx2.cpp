#include <immintrin.h>

#include "comet/formats/w4a16/cpu/gemm_body.h"

namespace comet::formats::w4a16_cpu {
namespace {

struct Avx2 {
  using Reg = __m256;
  using Words = __m256i;
  struct Table {};
  static constexpr int kLanes = 8;
  static constexpr int kTokens = 3;  // 4 × 3 sums, 3 inputs and 1 weight in 16 registers
  static constexpr int kFew = 2;
  static constexpr int64_t kFewTokens = 10;
  static constexpr bool kExact = false;

  static Reg splat(float x) { return _mm256_set1_ps(x); }
  static Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Reg v) { _mm256_storeu_ps(p, v); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static float sum(Reg v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  static float half(uint16_t bits) { return _cvtsh_ss(bits); }
  static Words load_words(const uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static Table table(float /*scale*/) { return {}; }
  template <int I>
  static Reg nibble(Words words, Table /*table*/) {
    if constexpr (I == 7) return _mm256_cvtepi32_ps(_mm256_srli_epi32(words, 28));
    return _mm256_cvtepi32_ps(_mm256_and_si256(words, _mm256_set1_epi32(15 << (4 * (I % 7)))));
  }
};

}  // namespace

const GemmIsa kAvx2Isa{Avx2::kFewTokens, arrange_row<Avx2>, gemm_rows<Avx2>};

}  // namespace comet::formats::w4a16_cpu
