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
  static constexpr bool kAlwaysZeros = false;

  static Reg splat(float x) { return _mm256_set1_ps(x); }
  static Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Reg v) { _mm256_storeu_ps(p, v); }
  static Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static float sum(Reg v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  static float half(uint16_t bits) { return _cvtsh_ss(bits); }
  static float zero(float nibble) { return nibble * 0.125F; }
  static Words load_words(const uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  template <bool Zeros>
  static Table table(const float* /*scale*/, const float* /*zero*/, int64_t /*group*/) {
    return {};
  }
  template <int I>
  static Reg nibble(Words words, Table /*table*/) {
    if constexpr (I == 7) return _mm256_cvtepi32_ps(_mm256_srli_epi32(words, 28));
    return _mm256_cvtepi32_ps(_mm256_and_si256(words, _mm256_set1_epi32(15 << (4 * (I % 7)))));
  }
};

/// A vector of words holds two groups of 32: u·scale − zero·scale by lane, exact.
struct Avx2ShortGroups : Avx2 {
  struct Table {
    __m256 scale;
    __m256 offset;
  };
  static constexpr bool kExact = true;
  static constexpr bool kAlwaysZeros = true;

  static float zero(float nibble) { return nibble; }
  template <bool Zeros>
  static Table table(const float* scale, const float* zero, int64_t /*group*/) {
    const __m256 scales = _mm256_set_m128(_mm_set1_ps(scale[1]), _mm_set1_ps(scale[0]));
    const __m256 zeros = _mm256_set_m128(_mm_set1_ps(zero[1]), _mm_set1_ps(zero[0]));
    return {scales, zeros};
  }
  template <int I>
  static Reg nibble(Words words, Table table) {
    const __m256i codes = _mm256_and_si256(_mm256_srli_epi32(words, 4 * I), _mm256_set1_epi32(15));
    return _mm256_mul_ps(_mm256_sub_ps(_mm256_cvtepi32_ps(codes), table.offset), table.scale);
  }
};

}  // namespace

const GemmIsa kAvx2Isa{Avx2::kFewTokens, kVectorChannels<Avx2>, arrange_row<Avx2>, gemm_rows<Avx2>};
const GemmIsa kAvx2ShortGroupsIsa{Avx2::kFewTokens, kMinGroup, arrange_row<Avx2ShortGroups>,
                                  gemm_rows<Avx2ShortGroups>};

}  // namespace comet::formats::w4a16_cpu
