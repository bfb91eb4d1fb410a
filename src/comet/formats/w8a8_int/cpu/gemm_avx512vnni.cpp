#include <immintrin.h>

#include "comet/formats/w8a8_int/cpu/gemm_body.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

/// u = w + 128 is the unsigned operand of vpdpbusd; 128·Σx is subtracted. Sums wrap modulo 2³² on
/// the way, the result is exact.
struct Avx512Vnni {
  using Reg = __m512i;
  static constexpr int64_t kStepBytes = 64;

  static Reg zero() { return _mm512_setzero_si512(); }
  static __m512i load_weights(const int8_t* w) {
    return _mm512_xor_si512(_mm512_loadu_si512(w), _mm512_set1_epi8(-128));
  }
  static Reg step(Reg sum, __m512i w, const int8_t* x) {
    return _mm512_dpbusd_epi32(sum, w, _mm512_loadu_si512(x));
  }
  static int32_t total(Reg sum, int32_t x_sum) {
    // Sums of u · q wrap modulo 2³² and the correction brings them back: additions must be the
    // instruction's, as _mm512_reduce_add_epi32 is a signed sum to the compiler.
    const __m256i half =
        _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    s = _mm_add_epi32(s, _mm_unpackhi_epi64(s, s));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 1));
    const auto wrapped = static_cast<uint32_t>(_mm_cvtsi128_si32(s));
    return static_cast<int32_t>(wrapped - 128U * static_cast<uint32_t>(x_sum));
  }
};

}  // namespace

void gemm_rows_avx512vnni(const GemmArgs& args, int64_t row_begin, int64_t row_end) {
  gemm_rows<Avx512Vnni>(args, row_begin, row_end);
}

}  // namespace comet::formats::w8a8_int::cpu
