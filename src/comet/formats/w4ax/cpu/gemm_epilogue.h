// From integer sums to outputs (docs/formats.md §1), for 16 rows of one token. Included by one file
// per instruction set (hence the unnamed namespace).
//
// Isa gives vectors of 16 lanes, Ints and Floats: load, store, splat, add, sub, mul, fma, to_float,
// from_halves, from_bytes. Two words of state per output, `a` and `b`, both zero at the start:
//   segments (one or two scales a token): a = the int32 sum of the present segment, b = s4·I4
//   chains (S1, group):                   a = the present chain of 8 blocks, b = sum of chains
#pragma once

#include <stdint.h>
#include <string.h>

#include "comet/formats/w4ax/cpu/gemm_args.h"

namespace comet::formats::w4ax::cpu {
namespace {

/// A value as a type, for lambdas that need a constant (std::integral_constant without the
/// library).
template <typename T, T Value>
struct Constant {
  static constexpr T value = Value;
};

enum class Weights { kChannel, kGroup, kProgressive };

/// State of 16 outputs.
struct Totals {
  alignas(64) int32_t a[16];  // a chain holds the bits of floats
  alignas(64) float b[16];
};

/// What one block's weights of 16 rows bring beside their codes.
template <class Isa, Weights Kind>
struct BlockScales {
  typename Isa::Floats scale;     // group
  typename Isa::Ints multiplier;  // progressive
  typename Isa::Ints offset;

  static BlockScales load(const GemmArgs& args, int64_t stored_row, int64_t block) {
    BlockScales scales{};
    const int64_t at = block * args.stored_rows + stored_row;
    if constexpr (Kind == Weights::kGroup) {
      scales.scale = Isa::from_halves(args.group_scale + at);
    }
    if constexpr (Kind == Weights::kProgressive) {
      scales.multiplier = Isa::from_bytes(args.multiplier + at);
      scales.offset = Isa::from_bytes(args.offset + at);
    }
    return scales;
  }
};

inline float block_scale(const GemmArgs& args, int64_t token, int64_t block) {
  if (args.block_scales) return args.x_scales[token * args.blocks + block];
  return args.x_scales[token * 2 + (block < args.int4_blocks ? 0 : 1)];
}

/// Adds blocks whose codes of x sum to `code_sum`; `sums` are Σ u·q_x, where u = q_w + 8, or the
/// stored u for progressive weights. More than one block only for channel weights and segments.
template <class Isa, Weights Kind, bool Chains>
inline void add_blocks(const BlockScales<Isa, Kind>& scales, int32_t code_sum, float x_scale,
                       typename Isa::Ints sums, Totals& totals) {
  if constexpr (Kind == Weights::kProgressive) {
    sums =
        Isa::add(Isa::mul(scales.multiplier, sums), Isa::mul(scales.offset, Isa::splat(code_sum)));
  } else {
    sums = Isa::sub(sums, Isa::splat(8 * code_sum));
  }
  if constexpr (!Chains) {
    Isa::store(totals.a, Isa::add(Isa::load(totals.a), sums));
  } else {
    typename Isa::Floats scale = Isa::splat(x_scale);
    if constexpr (Kind == Weights::kGroup) scale = Isa::mul(scale, scales.scale);
    const typename Isa::Floats chain = Isa::as_floats(Isa::load(totals.a));
    Isa::store(totals.a, Isa::as_ints(Isa::fma(scale, Isa::to_float(sums), chain)));
  }
}

/// After the blocks before `block_end`: closes a chain, or the INT4 segment where an INT8 one
/// follows.
template <class Isa, bool Chains>
inline void close_blocks(const GemmArgs& args, int64_t token, int64_t block_end, Totals& totals) {
  if constexpr (Chains) {
    if (block_end % kChainBlocks != 0 && block_end != args.blocks) return;
    Isa::store(totals.b, Isa::add(Isa::load(totals.b), Isa::as_floats(Isa::load(totals.a))));
  } else {
    if (block_end != args.int4_blocks || block_end == args.blocks) return;
    const typename Isa::Floats sum = Isa::to_float(Isa::load(totals.a));
    Isa::store(totals.b, Isa::mul(Isa::splat(args.x_scales[token * 2]), sum));
  }
  Isa::store(totals.a, Isa::splat(int32_t{0}));
}

template <class Isa, bool Chains>
inline void finish(const GemmArgs& args, int64_t stored_row, int64_t token, const Totals& totals,
                   float* y) {
  typename Isa::Floats value = Isa::load(totals.b);
  if constexpr (!Chains) {
    const bool has_int8 = args.int4_blocks < args.blocks;
    const typename Isa::Floats scale = Isa::splat(args.x_scales[token * 2 + (has_int8 ? 1 : 0)]);
    const typename Isa::Floats sum = Isa::to_float(Isa::load(totals.a));
    const bool two_segments = has_int8 && args.int4_blocks > 0;
    value = two_segments ? Isa::fma(scale, sum, value) : Isa::mul(scale, sum);
  }
  if (args.channel_scale != nullptr) {
    value = Isa::mul(Isa::load(args.channel_scale + stored_row), value);
  }
  Isa::store(y, value);
}

}  // namespace
}  // namespace comet::formats::w4ax::cpu
