#include "comet/formats/w8a8_int/cpu/gemm_body.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

/// Loops that the compiler turns into what the baseline has.
struct Portable {
  using Reg = int32_t;
  using Code = int16_t;
  using Stored = int16_t;
  static constexpr int64_t kStep = 64;
  static constexpr int kTokens = 2;
  struct Weights {
    int16_t values[kStep];
  };

  static Reg zero() { return 0; }
  static const int16_t* load_codes(const int16_t* x) { return x; }
  static Weights load_weights(const int8_t* w) {
    Weights result;
    for (int i = 0; i < kStep; ++i) result.values[i] = w[i];
    return result;
  }
  static const int16_t* load_strip(const int16_t* w) { return w; }
  static void store_strip(int16_t* p, const Weights& w) { memcpy(p, w.values, sizeof(w.values)); }
  static Reg mul_add(Reg sum, const int16_t* w, const int16_t* x) {
    for (int i = 0; i < kStep; ++i) sum += w[i] * x[i];
    return sum;
  }
  static Reg mul_add(Reg sum, const Weights& w, const int16_t* x) {
    return mul_add(sum, w.values, x);
  }
  static void totals(Reg a, Reg b, Reg c, Reg d, uint32_t* out) {
    out[0] = static_cast<uint32_t>(a);
    out[1] = static_cast<uint32_t>(b);
    out[2] = static_cast<uint32_t>(c);
    out[3] = static_cast<uint32_t>(d);
  }
  static int32_t exact(uint32_t total, int32_t /*x_sum*/) { return static_cast<int32_t>(total); }
};

}  // namespace

const GemmIsa kPortableIsa{true, gemm_rows<Portable>};

}  // namespace comet::formats::w8a8_int::cpu
