#include <immintrin.h>

#include "comet/formats/w8a8_int/cpu/packed/packed_body.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

/// |w| is the unsigned operand of maddubs and its sign moves to x: 2 · 128 · 127 fits int16. Codes
/// of inputs lie in [−127, 127], so −x is one, too.
struct Avx2 {
  using Reg = __m256i;
  struct Weights {
    __m256i sign;
    __m256i magnitude;
  };
  static constexpr int kRows = 4;  // 4 × 2 sums, 2 × 2 weights, codes and what becomes of them
  static constexpr uint8_t kFlip = 0;

  static Reg zero() { return _mm256_setzero_si256(); }
  static Reg total(const int32_t* sums, const int32_t* more) {
    return _mm256_add_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums)),
                            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(more)));
  }
  static void store_sums(int32_t* p, Reg sums) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), sums);
  }
  static Weights load_weights(const int8_t* p) {
    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {w, _mm256_abs_epi8(w)};
  }
  static Reg splat_codes(const uint8_t* p) {
    int32_t quad;
    memcpy(&quad, p, sizeof(quad));
    return _mm256_set1_epi32(quad);
  }
  static Reg mul_add(Reg sum, const Weights& w, Reg x) {
    const __m256i pairs = _mm256_maddubs_epi16(w.magnitude, _mm256_sign_epi8(x, w.sign));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static simd::F32 to_floats(Reg sums) { return {_mm256_cvtepi32_ps(sums)}; }
  static void store_codes(uint8_t* p, simd::F32 x) {
    simd::store_s8(reinterpret_cast<int8_t*>(p), simd::round_even(x));
  }
};

}  // namespace

const CodesIsa kPackedAvx2Isa = kCodesIsaOf<Avx2>;

}  // namespace comet::formats::w8a8_int::cpu
