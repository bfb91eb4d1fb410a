// What the w8a8-int CPU kernels are given: plain structs only, because files compiled for one
// instruction set include this.
#pragma once

#include <stdint.h>

namespace comet::formats::w8a8_int::cpu {

/// One part of a linear times the codes of all tokens.
struct GemmArgs {
  const int8_t* weight = nullptr;  // [n, k]
  const float* scale = nullptr;    // [n]
  int64_t n = 0;
  int64_t k = 0;
  const int8_t* codes = nullptr;   // [tokens, k_padded], zeros behind k
  int64_t k_padded = 0;            // a multiple of 128
  const float* x_scale = nullptr;  // of token t at 2t + 1
  const int32_t* x_sum = nullptr;  // [tokens] Σ codes
  int64_t tokens = 0;
  float* out = nullptr;  // first column of the part
  int64_t out_stride = 0;
};

/// Rows [row_begin, row_end) for all tokens.
using GemmRows = void (*)(const GemmArgs& args, int64_t row_begin, int64_t row_end);

void gemm_rows_portable(const GemmArgs& args, int64_t row_begin, int64_t row_end);
void gemm_rows_avx2(const GemmArgs& args, int64_t row_begin, int64_t row_end);
void gemm_rows_avx512vnni(const GemmArgs& args, int64_t row_begin, int64_t row_end);

}  // namespace comet::formats::w8a8_int::cpu
