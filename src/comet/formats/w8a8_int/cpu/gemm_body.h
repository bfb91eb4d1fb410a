// Body of the w8a8-int CPU kernels, included by one file per instruction set (hence the unnamed
// namespace): y[m, n] = s_w[n] · (s_x[m] · Σ q_w·q_x), exact int32. Both operands lie along k.
//
// Isa gives: Reg (int32 sums), zero, step(sum, w, x) over kStepBytes codes, total(sum, x_sum).
#pragma once

#include <stdint.h>
#include <string.h>

#include "comet/formats/w8a8_int/cpu/gemm_args.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

constexpr int kBlockRows = 4;

template <class Isa, int R, int T>
void multiply_block(const GemmArgs& args, int64_t row, int64_t token) {
  constexpr int64_t kStep = Isa::kStepBytes;
  typename Isa::Reg sum[R][T];
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) sum[r][t] = Isa::zero();
  }
  const int8_t* w = args.weight + row * args.k;
  const int8_t* x = args.codes + token * args.k_padded;
  const int64_t whole = args.k / kStep * kStep;
  for (int64_t i = 0; i < whole; i += kStep) {
    for (int r = 0; r < R; ++r) {
      __builtin_prefetch(w + (R + r) * args.k + i);
      const auto weights = Isa::load_weights(w + r * args.k + i);
      for (int t = 0; t < T; ++t) {
        sum[r][t] = Isa::step(sum[r][t], weights, x + t * args.k_padded + i);
      }
    }
  }
  if (whole < args.k) {
    for (int r = 0; r < R; ++r) {
      alignas(64) int8_t padded[kStep] = {};
      memcpy(padded, w + r * args.k + whole, static_cast<size_t>(args.k - whole));
      const auto weights = Isa::load_weights(padded);
      for (int t = 0; t < T; ++t) {
        sum[r][t] = Isa::step(sum[r][t], weights, x + t * args.k_padded + whole);
      }
    }
  }
  for (int t = 0; t < T; ++t) {
    const float scale = args.x_scale[2 * (token + t) + 1];
    for (int r = 0; r < R; ++r) {
      const int32_t exact = Isa::total(sum[r][t], args.x_sum[token + t]);
      args.out[(token + t) * args.out_stride + row + r] =
          args.scale[row + r] * (scale * static_cast<float>(exact));
    }
  }
}

template <class Isa, int R>
void multiply_rows(const GemmArgs& args, int64_t row) {
  int64_t token = 0;
  for (; token + 4 <= args.tokens; token += 4) multiply_block<Isa, R, 4>(args, row, token);
  for (; token < args.tokens; ++token) multiply_block<Isa, R, 1>(args, row, token);
}

template <class Isa>
void gemm_rows(const GemmArgs& args, int64_t row_begin, int64_t row_end) {
  int64_t row = row_begin;
  for (; row + kBlockRows <= row_end; row += kBlockRows) multiply_rows<Isa, kBlockRows>(args, row);
  for (; row < row_end; ++row) multiply_rows<Isa, 1>(args, row);
}

}  // namespace
}  // namespace comet::formats::w8a8_int::cpu
