// Body of quantize_row, included by one file per instruction set (hence the unnamed namespace).
// Plain loops that the compiler turns into vectors: every operation is one FP32 operation in the
// order written, so all instruction sets give the same codes.
#pragma once

#include <stdint.h>
#include <string.h>

#include "comet/formats/cpu/quantize_row.h"

namespace comet::formats::cpu {
namespace {

constexpr int64_t kChannels = 128;  // of a block

inline void gather_row(const RowPlan& plan, const float* x, float* row) {
  const int64_t k_padded = plan.blocks * kChannels;
  if (plan.perm == nullptr) {
    memcpy(row, x, sizeof(float) * static_cast<size_t>(plan.k));
    for (int64_t i = plan.k; i < k_padded; ++i) row[i] = 0.0F;
    return;
  }
  for (int64_t i = 0; i < k_padded; ++i) {
    const int32_t source = plan.perm[i];
    row[i] = source < 0 ? 0.0F : x[source];
  }
}

/// 128-point Hadamard transform in Sylvester order, stages of stride 1, 2, 4 … 64, then 1/√128.
inline void rotate_block(float* block) {
  alignas(64) float other[kChannels];
  // A stage pairs (i, i + stride). The small strides are done on a transposed copy so that all
  // loops run over 16 neighbours: element (r, c) of 8 × 16 at c · 8 + r.
  for (int r = 0; r < 8; ++r) {
    for (int c = 0; c < 16; ++c) other[r * 16 + c] = block[c * 8 + r];
  }
  for (int stride = 1; stride < 8; stride *= 2) {
    for (int r = 0; r < 8; ++r) {
      if ((r & stride) != 0) continue;
      float* low = other + r * 16;
      float* high = other + (r + stride) * 16;
      for (int c = 0; c < 16; ++c) {
        const float a = low[c];
        const float b = high[c];
        low[c] = a + b;
        high[c] = a - b;
      }
    }
  }
  for (int r = 0; r < 8; ++r) {
    for (int c = 0; c < 16; ++c) block[c * 8 + r] = other[r * 16 + c];
  }
  for (int stride = 8; stride < kChannels; stride *= 2) {
    for (int begin = 0; begin < kChannels; begin += 2 * stride) {
      float* low = block + begin;
      float* high = block + begin + stride;
      for (int i = 0; i < stride; ++i) {
        const float a = low[i];
        const float b = high[i];
        low[i] = a + b;
        high[i] = a - b;
      }
    }
  }
  constexpr float kNorm = 0.08838834764831845F;  // 1/√128
  for (int i = 0; i < kChannels; ++i) block[i] *= kNorm;
}

/// Bits of the largest |x|: as integers they compare like the floats, with Inf and NaN on top.
inline int32_t absmax_bits(const float* x, int64_t count) {
  int32_t top = 0;
  for (int64_t i = 0; i < count; ++i) {
    int32_t bits;
    memcpy(&bits, x + i, sizeof(bits));
    bits &= 0x7FFFFFFF;
    top = bits > top ? bits : top;
  }
  return top;
}

/// Codes in [−limit, limit] over one span of a scale; returns the scale.
inline float quantize_span(const float* x, int64_t count, float limit, float clip, int8_t* codes) {
  constexpr int32_t kInfinityBits = 0x7F800000;
  constexpr float kSmallest = 0x1p-100F;
  constexpr float kRound = 0x1.8p23F;  // v + kRound − kRound is rne(v) for |v| < 2²²
  const int32_t bits = absmax_bits(x, count);
  float a;
  memcpy(&a, &bits, sizeof(a));
  if (bits >= kInfinityBits) {
    memset(codes, 0, static_cast<size_t>(count));
    return __builtin_nanf("");
  }
  a = clip * a;
  if (a < kSmallest) {
    memset(codes, 0, static_cast<size_t>(count));
    return 0.0F;
  }
  const float r = limit / a;
  for (int64_t i = 0; i < count; ++i) {
    float v = x[i] * r;
    v = v < -limit ? -limit : v;
    v = v > limit ? limit : v;
    codes[i] = static_cast<int8_t>(static_cast<int32_t>((v + kRound) - kRound));
  }
  return a / limit;
}

inline void sum_blocks(const int8_t* codes, int64_t blocks, int32_t* sums) {
  for (int64_t b = 0; b < blocks; ++b) {
    int32_t sum = 0;
    for (int64_t i = 0; i < kChannels; ++i) sum += codes[b * kChannels + i];
    sums[b] = sum;
  }
}

inline void quantize_row_body(const RowPlan& plan, const float* x, float* row,
                              const RowOutput& out) {
  gather_row(plan, x, row);
  if (plan.scale == RowScale::kSegmentRotated) {
    for (int64_t b = 0; b < plan.int4_blocks; ++b) rotate_block(row + b * kChannels);
  }
  const int64_t int4_channels = plan.int4_blocks * kChannels;
  if (plan.scale == RowScale::kBlock) {
    for (int64_t b = 0; b < plan.blocks; ++b) {
      const bool int4 = b < plan.int4_blocks;
      out.scales[b] = quantize_span(row + b * kChannels, kChannels, int4 ? 7.0F : 127.0F,
                                    int4 ? plan.clip : 1.0F, out.codes + b * kChannels);
    }
  } else {
    out.scales[0] = quantize_span(row, int4_channels, 7.0F, plan.clip, out.codes);
    out.scales[1] = quantize_span(row + int4_channels, plan.blocks * kChannels - int4_channels,
                                  127.0F, 1.0F, out.codes + int4_channels);
  }
  sum_blocks(out.codes, plan.blocks, out.block_sums);
}

}  // namespace
}  // namespace comet::formats::cpu
