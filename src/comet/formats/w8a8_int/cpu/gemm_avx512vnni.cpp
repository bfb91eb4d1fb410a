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
    const auto wrapped = static_cast<uint32_t>(_mm512_reduce_add_epi32(sum));
    return static_cast<int32_t>(wrapped - 128U * static_cast<uint32_t>(x_sum));
  }
};

}  // namespace

void gemm_rows_avx512vnni(const GemmArgs& args, int64_t row_begin, int64_t row_end) {
  gemm_rows<Avx512Vnni>(args, row_begin, row_end);
}

}  // namespace comet::formats::w8a8_int::cpu
