#include <immintrin.h>

#include "comet/formats/w4a16/cpu/gemm_body.h"

namespace comet::formats::w4a16_cpu {
namespace {

struct Avx512 {
  using Reg = __m512;
  using Words = __m512i;
  using Table = __m512;  // q·scale for q = −8 … 7
  static constexpr int kLanes = 16;
  static constexpr int kTokens = 6;  // 4 × 6 sums, 6 inputs and 1 weight in 32 registers
  static constexpr int kFew = 4;
  static constexpr int64_t kFewTokens = 24;
  static constexpr bool kExact = true;

  static Reg splat(float x) { return _mm512_set1_ps(x); }
  static Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Reg v) { _mm512_storeu_ps(p, v); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static float sum(Reg v) { return _mm512_reduce_add_ps(v); }
  static float half(uint16_t bits) { return _cvtsh_ss(bits); }
  static Words load_words(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static Table table(float scale) {
    const __m512 codes = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    return _mm512_mul_ps(codes, _mm512_set1_ps(scale));
  }
  /// The permutation reads the low four bits of each lane.
  template <int I>
  static Reg nibble(Words words, Table table) {
    return _mm512_permutexvar_ps(_mm512_srli_epi32(words, 4 * I), table);
  }
};

}  // namespace

const GemmIsa kAvx512Isa{Avx512::kFewTokens, arrange_row<Avx512>, gemm_rows<Avx512>};

}  // namespace comet::formats::w4a16_cpu
