#include "comet/formats/w8a8_int/cpu/gemm_body.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

struct Portable {
  using Reg = int32_t;
  static constexpr int64_t kStepBytes = 32;

  static Reg zero() { return 0; }
  static const int8_t* load_weights(const int8_t* w) { return w; }
  static Reg step(Reg sum, const int8_t* w, const int8_t* x) {
    for (int i = 0; i < kStepBytes; ++i) sum += w[i] * x[i];
    return sum;
  }
  static int32_t total(Reg sum, int32_t /*x_sum*/) { return sum; }
};

}  // namespace

void gemm_rows_portable(const GemmArgs& args, int64_t row_begin, int64_t row_end) {
  gemm_rows<Portable>(args, row_begin, row_end);
}

}  // namespace comet::formats::w8a8_int::cpu
