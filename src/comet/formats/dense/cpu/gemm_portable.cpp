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
  /// Codes times 2⁻⁸. s.eeee.mmm shifted is the FP32 2^(e−15)·(1 + m/8); subnormals get the
  /// exponent of e = 1 and lose the 1 again. (Made from FP32 subnormals they would be slow.)
  static void e4m3_pair(const uint8_t* p, Reg& even, Reg& odd) {
    using Words = uint32_t __attribute__((vector_size(16)));
    using Halves = uint16_t __attribute__((vector_size(8)));
    Halves pairs;
    memcpy(&pairs, p, sizeof(pairs));
    const Words codes = __builtin_convertvector(pairs, Words);
    const auto widen = [](Words code) {
      constexpr uint32_t kBias = 112U << 23;
      constexpr uint32_t kOne = 1U << 23;
      const Words size = code & 0x7FU;
      const auto subnormal = reinterpret_cast<Words>(size < 8U);
      const Words bits = (size << 20) + kBias + (subnormal & kOne);
      const Reg value =
          reinterpret_cast<Reg>(bits) - reinterpret_cast<Reg>(subnormal & (kBias + kOne));
      return reinterpret_cast<Reg>(reinterpret_cast<Words>(value) | (code & 0x80U) << 24);
    };
    even = widen(codes & 0xFFU);
    odd = widen(codes >> 8);
  }
};

}  // namespace

const GemmIsa kPortableIsa{arrange_row<Portable>, arrange_e4m3_row<Portable>, gemm_rows<Portable>};

}  // namespace comet::formats::dense_cpu
