// What the packed w8a8-int CPU kernels are given: plain structs only, because files compiled for
// one instruction set include this. Caller: packed_rows.cpp.
#pragma once

#include <stdint.h>

#include "comet/ops/packed_product/packed_tile.h"

namespace comet::formats::w8a8_int::cpu {

// Codes of a group of rows: [chunk][row][kCodesStride] bytes, zero codes behind k; as
// ops/packed_product lays floats, and for its reasons.
constexpr int64_t kCodesDepth = 1024;
constexpr int64_t kCodesStride = kCodesDepth + 64;

/// Rows of codes times one panel of weights.
struct CodesTile {
  const uint8_t* a = nullptr;       // the group's first chunk, codes ^ CodesIsa::flip
  const int8_t* b = nullptr;        // [k / 4][width][4], width of the set or half of it
  int64_t num_quads = 0;            // k / 4, rounded up
  int64_t num_rows = 0;             // 1 … CodesIsa::rows
  int64_t num_columns = 0;          // 1 … CodesIsa::width; up to half of it: a half panel
  const int32_t* offset = nullptr;  // is added to sums: minus Σ flip · w, of a whole panel
  const float* scale = nullptr;     // [num_columns] of weights
  const float* x_scale = nullptr;   // [num_rows]
  const float* bias = nullptr;      // [num_columns]; null: none
  PackedEnd end = PackedEnd::kPlain;
  float* out = nullptr;
  int64_t out_stride = 0;
  // Fetched into L2 on the way, `ahead_step` bytes with every quad: a part of what comes next.
  const void* ahead = nullptr;
  int64_t ahead_step = 0;
};

struct CodesIsa {
  int64_t rows;   // of a group
  int64_t width;  // columns of a panel: two vectors of int32
  uint8_t flip;   // 128 where codes are made unsigned
  void (*multiply)(const CodesTile& tile);
  /// x [k] → codes at `row` of a group of `rows`; returns the scale.
  float (*quantize)(const float* x, int64_t k, uint8_t* row);
  /// The same of codes that are there already.
  void (*place)(const int8_t* codes, int64_t k, uint8_t* row);
};

extern const CodesIsa kPackedAvx2Isa;
extern const CodesIsa kPackedAvx512VnniIsa;

}  // namespace comet::formats::w8a8_int::cpu
