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
  const int8_t* codes = nullptr;   // [tokens, k_padded] in [−127, 127], zeros behind k
  const int16_t* wide = nullptr;   // the same as int16, where GemmIsa::wide_codes
  int64_t k_padded = 0;            // a multiple of 128
  const float* x_scale = nullptr;  // of token t at 2t + 1
  const int32_t* x_sum = nullptr;  // [tokens] Σ codes
  int64_t tokens = 0;
  float* out = nullptr;  // first column of the part
  int64_t out_stride = 0;
};

constexpr int64_t kFewTokens = 16;  // up to here weights are read in place
// Blocking of the many-token product: a strip of widened weights stays in L2.
constexpr int64_t kStripRows = 32;
constexpr int64_t kStripTokens = 96;
constexpr int64_t kStripBytes = 128 * 1024;

/// Scratch of one thread.
struct Scratch {
  uint8_t* strip = nullptr;    // kStripBytes, at a cache line
  uint32_t* totals = nullptr;  // kStripTokens · kStripRows
};

/// One instruction set: s8 codes are multiplied as they are, or both operands as int16.
struct GemmIsa {
  bool wide_codes = false;
  /// Rows [row_begin, row_end) for all tokens.
  void (*rows)(const GemmArgs& args, int64_t row_begin, int64_t row_end, const Scratch& scratch);
};

extern const GemmIsa kPortableIsa;
extern const GemmIsa kAvx2Isa;
extern const GemmIsa kAvx512Isa;
extern const GemmIsa kAvx512VnniIsa;

}  // namespace comet::formats::w8a8_int::cpu
