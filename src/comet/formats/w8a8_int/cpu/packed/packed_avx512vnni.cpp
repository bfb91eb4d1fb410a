#include <immintrin.h>

#include "comet/formats/w8a8_int/cpu/packed/packed_body.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

/// Codes of x plus 128 are the unsigned operand of vpdpbusd; −128 · Σ w is added to a sum. Sums
/// wrap modulo 2³² on the way, the result is exact.
struct Avx512Vnni {
  using Reg = __m512i;
  using Weights = __m512i;
  static constexpr int kRows = 14;  // 14 × 2 sums, 2 weights and the codes in 32 registers
  static constexpr uint8_t kFlip = 128;

  static Reg zero() { return _mm512_setzero_si512(); }
  static Reg total(const int32_t* sums, const int32_t* more) {
    return _mm512_add_epi32(_mm512_loadu_si512(sums), _mm512_loadu_si512(more));
  }
  static void store_sums(int32_t* p, Reg sums) { _mm512_storeu_si512(p, sums); }
  static Weights load_weights(const int8_t* p) { return _mm512_loadu_si512(p); }
  static Reg splat_codes(const uint8_t* p) {
    int32_t quad;
    memcpy(&quad, p, sizeof(quad));
    return _mm512_set1_epi32(quad);
  }
  static Reg mul_add(Reg sum, Weights w, Reg x) { return _mm512_dpbusd_epi32(sum, x, w); }
  static simd::F32 to_floats(Reg sums) { return {_mm512_cvtepi32_ps(sums)}; }
  static void store_codes(uint8_t* p, simd::F32 x) {
    const __m128i codes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x.v));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_xor_si128(codes, _mm_set1_epi8(-128)));
  }
};

}  // namespace

const CodesIsa kPackedAvx512VnniIsa = kCodesIsaOf<Avx512Vnni>;

}  // namespace comet::formats::w8a8_int::cpu
