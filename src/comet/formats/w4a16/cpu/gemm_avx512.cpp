#include <immintrin.h>

#include "comet/formats/w4a16/cpu/gemm_body.h"

namespace comet::formats::w4a16_cpu {
namespace {

struct Avx512 {
  using Reg = __m512;
  using Words = __m512i;
  using Table = __m512;  // (u − zero)·scale for u = 0 … 15
  static constexpr int kLanes = 16;
  static constexpr int kTokens = 6;  // 4 × 6 sums, 6 inputs and 1 weight in 32 registers
  static constexpr int kFew = 4;
  static constexpr int64_t kFewTokens = 24;
  static constexpr bool kExact = true;
  static constexpr bool kAlwaysZeros = false;

  static Reg splat(float x) { return _mm512_set1_ps(x); }
  static Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Reg v) { _mm512_storeu_ps(p, v); }
  static Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static float sum(Reg v) { return _mm512_reduce_add_ps(v); }
  static float half(uint16_t bits) { return _cvtsh_ss(bits); }
  static float zero(float nibble) { return nibble - 8.0F; }
  static Words load_words(const uint8_t* p) { return _mm512_loadu_si512(p); }
  template <bool Zeros>
  static Table table(const float* scale, const float* zero, int64_t /*group*/) {
    const __m512 codes = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    if constexpr (Zeros) {
      return _mm512_mul_ps(_mm512_sub_ps(codes, _mm512_set1_ps(*zero)), _mm512_set1_ps(*scale));
    }
    return _mm512_mul_ps(codes, _mm512_set1_ps(*scale));
  }
  /// The permutation reads the low four bits of each lane.
  template <int I>
  static Reg nibble(Words words, Table table) {
    return _mm512_permutexvar_ps(_mm512_srli_epi32(words, 4 * I), table);
  }
};

/// A vector of words holds two groups of 64 or four of 32: (u − zero)·scale by lane, exact.
struct Avx512ShortGroups : Avx512 {
  struct Table {
    __m512 scale;
    __m512 offset;
  };
  static constexpr bool kAlwaysZeros = true;

  static float zero(float nibble) { return nibble; }
  /// Four lanes hold 32 channels.
  static __m512 spread(const float* values, int64_t group) {
    const __m128 first = _mm_set1_ps(values[0]);
    const __m128 second = _mm_set1_ps(values[1]);
    if (group == 64) {
      return _mm512_insertf32x8(_mm512_broadcast_f32x4(first), _mm256_set_m128(second, second), 1);
    }
    const __m256 low = _mm256_set_m128(second, first);
    const __m256 high = _mm256_set_m128(_mm_set1_ps(values[3]), _mm_set1_ps(values[2]));
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
  }
  template <bool Zeros>
  static Table table(const float* scale, const float* zero, int64_t group) {
    return {spread(scale, group), spread(zero, group)};
  }
  template <int I>
  static Reg nibble(Words words, Table table) {
    const __m512i codes = _mm512_and_si512(_mm512_srli_epi32(words, 4 * I), _mm512_set1_epi32(15));
    return _mm512_mul_ps(_mm512_sub_ps(_mm512_cvtepi32_ps(codes), table.offset), table.scale);
  }
};

}  // namespace

const GemmIsa kAvx512Isa{Avx512::kFewTokens, kVectorChannels<Avx512>, arrange_row<Avx512>,
                         gemm_rows<Avx512>};
const GemmIsa kAvx512ShortGroupsIsa{Avx512::kFewTokens, kMinGroup, arrange_row<Avx512ShortGroups>,
                                    gemm_rows<Avx512ShortGroups>};

}  // namespace comet::formats::w4a16_cpu
