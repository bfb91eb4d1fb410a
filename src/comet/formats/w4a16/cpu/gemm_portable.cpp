#include "comet/formats/w4a16/cpu/gemm_body.h"
#include "comet/tensor/dtype.h"

namespace comet::formats::w4a16_cpu {
namespace {

struct Portable {
  using Reg = float __attribute__((vector_size(16)));
  using Words = uint32_t __attribute__((vector_size(16)));
  struct Table {};
  static constexpr int kLanes = 4;
  static constexpr int kTokens = 2;
  static constexpr int kFew = 2;
  static constexpr int64_t kFewTokens = 8;
  static constexpr bool kExact = false;
  static constexpr bool kAlwaysZeros = false;

  static Reg splat(float x) { return Reg{x, x, x, x}; }
  static Reg load(const float* p) {
    Reg v;
    memcpy(&v, p, sizeof(v));
    return v;
  }
  static void store(float* p, Reg v) { memcpy(p, &v, sizeof(v)); }
  static Reg mul(Reg a, Reg b) { return a * b; }
  static Reg fma(Reg a, Reg b, Reg c) { return a * b + c; }  // two roundings: no FMA before AVX2
  static float sum(Reg v) { return (v[0] + v[2]) + (v[1] + v[3]); }
  static float half(uint16_t bits) { return to_float(Float16{bits}); }
  static float zero(float nibble) { return nibble * 0.125F; }
  static Words load_words(const uint8_t* p) {
    Words words;
    memcpy(&words, p, sizeof(words));
    return words;
  }
  template <bool Zeros>
  static Table table(const float* /*scale*/, const float* /*zero*/, int64_t /*group*/) {
    return {};
  }
  template <int I>
  static Reg nibble(Words words, Table /*table*/) {
    using Integers = int32_t __attribute__((vector_size(16)));
    const Words bits = I == 7 ? words >> 28 : words & (15U << (4 * (I % 7)));
    return __builtin_convertvector(reinterpret_cast<Integers>(bits), Reg);
  }
};

}  // namespace

const GemmIsa kPortableIsa{Portable::kFewTokens, kVectorChannels<Portable>, arrange_row<Portable>,
                           gemm_rows<Portable>};

}  // namespace comet::formats::w4a16_cpu
