#include <immintrin.h>

#include "comet/formats/w8a8_int/cpu/avx512_lanes_simd.h"
#include "comet/formats/w8a8_int/cpu/gemm_body.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

/// u = w + 128 is the unsigned operand of vpdpbusd; 128·Σx is subtracted. Sums wrap modulo 2³² on
/// the way, the result is exact.
struct Avx512Vnni : Avx512Lanes {
  using Code = int8_t;
  using Stored = uint8_t;
  static constexpr int64_t kStep = 64;

  static Reg load_codes(const int8_t* x) { return _mm512_loadu_si512(x); }
  static Reg load_weights(const int8_t* w) {
    return _mm512_xor_si512(_mm512_loadu_si512(w), _mm512_set1_epi8(-128));
  }
  static Reg load_strip(const uint8_t* w) { return _mm512_load_si512(w); }
  static void store_strip(uint8_t* p, Reg w) { _mm512_store_si512(p, w); }
  static Reg mul_add(Reg sum, Reg w, Reg x) { return _mm512_dpbusd_epi32(sum, w, x); }
  static int32_t exact(uint32_t total, int32_t x_sum) {
    return static_cast<int32_t>(total - 128U * static_cast<uint32_t>(x_sum));
  }
};

}  // namespace

const GemmIsa kAvx512VnniIsa{false, gemm_rows<Avx512Vnni>};

}  // namespace comet::formats::w8a8_int::cpu
