#include "comet/formats/w8a8_fp8/cpu/quantize_row_body.h"

namespace comet::formats::w8a8_fp8::cpu {

float quantize_row_portable(const float* x, int64_t k, uint8_t* codes) {
  return quantize_row_body(x, k, codes);
}

}  // namespace comet::formats::w8a8_fp8::cpu
