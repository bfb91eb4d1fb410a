// One activation row → codes, scales and sums of codes (docs/formats.md §1, §2.4), on the CPU.
// Plain structs only: files compiled for one instruction set include this.
#pragma once

#include <stdint.h>

namespace comet::formats::cpu {

enum class RowScale { kBlock, kSegment, kSegmentRotated };  // S1, S2, S2h

struct RowPlan {
  const int32_t* perm = nullptr;  // [blocks · 128] source channel or −1; null = identity
  int64_t k = 0;                  // channels of the row
  int64_t blocks = 0;
  int64_t int4_blocks = 0;
  float clip = 1.0F;
  RowScale scale = RowScale::kSegment;
};

struct RowOutput {
  int8_t* codes = nullptr;        // [blocks · 128]
  float* scales = nullptr;        // [blocks] (S1) or [2]
  int32_t* block_sums = nullptr;  // [blocks]
};

/// `scratch` holds blocks · 128 floats. A NaN or Inf in the row gives its scale NaN and codes 0.
using QuantizeRow = void (*)(const RowPlan& plan, const float* x, float* scratch,
                             const RowOutput& out);

void quantize_row_portable(const RowPlan& plan, const float* x, float* scratch,
                           const RowOutput& out);
void quantize_row_avx2(const RowPlan& plan, const float* x, float* scratch, const RowOutput& out);
void quantize_row_avx512(const RowPlan& plan, const float* x, float* scratch, const RowOutput& out);

}  // namespace comet::formats::cpu
