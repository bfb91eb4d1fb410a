#include <immintrin.h>

#include "comet/formats/w8a8_int/cpu/avx512_lanes_simd.h"
#include "comet/formats/w8a8_int/cpu/gemm_body.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

/// Both operands as int16: pmaddwd has no bound to heed, −128 included.
struct Avx512 : Avx512Lanes {
  using Code = int16_t;
  using Stored = int16_t;
  static constexpr int64_t kStep = 32;

  static Reg load_codes(const int16_t* x) { return _mm512_loadu_si512(x); }
  static Reg load_weights(const int8_t* w) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
  }
  static Reg load_strip(const int16_t* w) { return _mm512_load_si512(w); }
  static void store_strip(int16_t* p, Reg w) { _mm512_store_si512(p, w); }
  static Reg mul_add(Reg sum, Reg w, Reg x) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(w, x));
  }
  static int32_t exact(uint32_t total, int32_t /*x_sum*/) { return static_cast<int32_t>(total); }
};

}  // namespace

const GemmIsa kAvx512Isa{true, gemm_rows<Avx512>};

}  // namespace comet::formats::w8a8_int::cpu
