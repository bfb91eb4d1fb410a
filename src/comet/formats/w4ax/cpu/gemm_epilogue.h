// From integer sums to outputs (docs/formats.md §1), for 16 rows of one token. Included by one file
// per instruction set (hence the unnamed namespace); plain loops over 16 lanes that the compiler
// turns into vectors.
//
// Two words of state per output, `a` and `b`, both zero at the start:
//   segments (one or two scales a token): a = the int32 sum of the present segment, b = s4·I4
//   chains (S1, group):                   a = the present chain of 8 blocks, b = sum of chains
#pragma once

#include <stdint.h>
#include <string.h>

#include "comet/formats/w4ax/cpu/gemm_args.h"

namespace comet::formats::w4ax::cpu {
namespace {

enum class Weights { kChannel, kGroup, kProgressive };

/// A value as a type, for lambdas that need a constant (std::integral_constant, without the
/// library).
template <typename T, T kValue>
struct Constant {
  static constexpr T value = kValue;
};

union Word {
  int32_t i;
  float f;
};

/// State of 16 outputs.
struct Totals {
  alignas(64) Word a[16];
  alignas(64) Word b[16];
};

/// What the rows `stored_row` … + 15 add for blocks [block, block + count): `sums` are Σ u·q_x,
/// where u = q_w + 8, or the stored u for progressive weights. count > 1 only for channel weights
/// and segment scales.
template <class Isa, Weights kWeights, bool kChains>
inline void add_blocks(const GemmArgs& args, int64_t stored_row, int64_t token, int64_t block,
                       int64_t count, const int32_t* sums, Totals& totals) {
  const int32_t* block_sums = args.block_sums + token * args.blocks + block;
  int32_t code_sum = block_sums[0];
  for (int64_t i = 1; i < count; ++i) code_sum += block_sums[i];
  const int64_t group = block * args.stored_rows + stored_row;

  int32_t exact[16];
  if constexpr (kWeights == Weights::kProgressive) {
    const uint8_t* g = args.multiplier + group;
    const int8_t* o = args.offset + group;
    for (int i = 0; i < 16; ++i) exact[i] = g[i] * sums[i] + o[i] * code_sum;
  } else {
    const int32_t shift = 8 * code_sum;
    for (int i = 0; i < 16; ++i) exact[i] = sums[i] - shift;
  }
  if constexpr (!kChains) {
    for (int i = 0; i < 16; ++i) totals.a[i].i += exact[i];
    return;
  }
  const float x_scale = args.block_scales
                            ? args.x_scales[token * args.blocks + block]
                            : args.x_scales[token * 2 + (block < args.int4_blocks ? 0 : 1)];
  if constexpr (kWeights == Weights::kGroup) {
    float w_scale[16];
    Isa::half_to_float16(args.group_scale + group, w_scale);
    for (int i = 0; i < 16; ++i) {
      totals.a[i].f = Isa::fma(x_scale * w_scale[i], static_cast<float>(exact[i]), totals.a[i].f);
    }
  } else {
    for (int i = 0; i < 16; ++i) {
      totals.a[i].f = Isa::fma(x_scale, static_cast<float>(exact[i]), totals.a[i].f);
    }
  }
}

/// After blocks [.., block_end): closes a chain, or the INT4 segment where an INT8 one follows.
template <bool kChains>
inline void close_blocks(const GemmArgs& args, int64_t token, int64_t block_end, Totals& totals) {
  if constexpr (kChains) {
    if (block_end % kChainBlocks != 0 && block_end != args.blocks) return;
    for (int i = 0; i < 16; ++i) {
      totals.b[i].f += totals.a[i].f;
      totals.a[i].f = 0.0F;
    }
  } else {
    if (block_end != args.int4_blocks || block_end == args.blocks) return;
    const float scale = args.x_scales[token * 2];
    for (int i = 0; i < 16; ++i) {
      totals.b[i].f = scale * static_cast<float>(totals.a[i].i);
      totals.a[i].i = 0;
    }
  }
}

template <class Isa, bool kChains>
inline void finish(const GemmArgs& args, int64_t stored_row, int64_t token, const Totals& totals,
                   float* y) {
  if constexpr (kChains) {
    for (int i = 0; i < 16; ++i) y[i] = totals.b[i].f;
  } else {
    const bool has_int8 = args.int4_blocks < args.blocks;
    const float scale = args.x_scales[token * 2 + (has_int8 ? 1 : 0)];
    if (has_int8 && args.int4_blocks > 0) {
      for (int i = 0; i < 16; ++i) {
        y[i] = Isa::fma(scale, static_cast<float>(totals.a[i].i), totals.b[i].f);
      }
    } else {
      for (int i = 0; i < 16; ++i) y[i] = scale * static_cast<float>(totals.a[i].i);
    }
  }
  if (args.channel_scale != nullptr) {
    const float* w_scale = args.channel_scale + stored_row;
    for (int i = 0; i < 16; ++i) y[i] = w_scale[i] * y[i];
  }
}

}  // namespace
}  // namespace comet::formats::w4ax::cpu
