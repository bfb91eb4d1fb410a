#include "comet/formats/dense/cpu/gemm_body.h"
#include "comet/tensor/dtype.h"

namespace comet::formats::dense_cpu {
namespace {

struct Portable {
  using Reg = float __attribute__((vector_size(16)));
  static constexpr int kLanes = 4;
  static constexpr int kTokens = 2;

  static Reg zero() { return Reg{}; }
  static Reg load(const float* p) {
    Reg v;
    memcpy(&v, p, sizeof(v));
    return v;
  }
  static void store(float* p, Reg v) { memcpy(p, &v, sizeof(v)); }
  static Reg fma(Reg a, Reg b, Reg c) { return a * b + c; }  // two roundings: no FMA before AVX2
  static float sum(Reg v) { return (v[0] + v[2]) + (v[1] + v[3]); }
  static Reg half(const uint16_t* p) {
    return Reg{to_float(Float16{p[0]}), to_float(Float16{p[1]}), to_float(Float16{p[2]}),
               to_float(Float16{p[3]})};
  }
  static void bf16_pair(const uint16_t* p, Reg& even, Reg& odd) {
    using Words = uint32_t __attribute__((vector_size(16)));
    Words pairs;
    memcpy(&pairs, p, sizeof(pairs));
    even = reinterpret_cast<Reg>(pairs << 16);
    odd = reinterpret_cast<Reg>(pairs & 0xFFFF0000U);
  }
  /// s.eeee.mmm, as the FP32 s.0000eeee.mmm0…, is the same number times 2⁻¹²⁰.
  static void e4m3_pair(const uint8_t* p, Reg& even, Reg& odd) {
    using Words = uint32_t __attribute__((vector_size(16)));
    const Words codes = {uint32_t{p[0]} | uint32_t{p[1]} << 8, uint32_t{p[2]} | uint32_t{p[3]} << 8,
                         uint32_t{p[4]} | uint32_t{p[5]} << 8,
                         uint32_t{p[6]} | uint32_t{p[7]} << 8};
    const auto widen = [](Words code) {
      const Words bits = (code & 0x80U) << 24 | (code & 0x7FU) << 20;
      return reinterpret_cast<Reg>(bits) * 0x1p112F;
    };
    even = widen(codes & 0xFFU);
    odd = widen(codes >> 8);
  }
};

}  // namespace

const GemmIsa kPortableIsa{arrange_row<Portable>, arrange_e4m3_row<Portable>, gemm_rows<Portable>};

}  // namespace comet::formats::dense_cpu
