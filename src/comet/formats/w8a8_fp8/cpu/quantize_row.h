// One activation row → E4M3 codes and their scale (docs/formats.md §1), on the CPU. Plain C only:
// files compiled for one instruction set include this.
#pragma once

#include <stdint.h>

namespace comet::formats::w8a8_fp8::cpu {

/// Returns the scale; a NaN or Inf in the row gives NaN and codes 0.
using QuantizeRow = float (*)(const float* x, int64_t k, uint8_t* codes);

float quantize_row_portable(const float* x, int64_t k, uint8_t* codes);
float quantize_row_avx2(const float* x, int64_t k, uint8_t* codes);
float quantize_row_avx512(const float* x, int64_t k, uint8_t* codes);

}  // namespace comet::formats::w8a8_fp8::cpu
