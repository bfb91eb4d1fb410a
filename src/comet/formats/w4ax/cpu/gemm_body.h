// Loops of the w4ax CPU kernels, included by one file per instruction set (hence the unnamed
// namespace).
//
// Few tokens (decode): a tile of 128 rows is streamed block by block, 8 KiB of neighbouring memory
// at a time; nibbles are decoded in registers and multiplied with `expanded` codes. Many tokens
// (prefill): up to 8 blocks of a tile are decoded once into a byte panel, which then meets all
// tokens.
//
// Beside the vectors of gemm_epilogue.h, Isa gives
//   block_sums<T>(unit, mask, x[T], sums[T])       Σ u·q of 16 rows over a block
//   decode_unit(unit, mask, panel)                 64 channels × 16 rows → [16 quads][16 rows][4]
//   panel_sums(panel, quads, x, x_stride, count, sums)   Σ u·q over 4·quads channels of units that
//                                                  lie kUnitPanelBytes apart
// with kPanelUnits = its units and kPanelBlockTokens = its most tokens.
#pragma once

#include "comet/formats/w4ax/cpu/gemm_epilogue.h"

namespace comet::formats::w4ax::cpu {
namespace {

constexpr int64_t kLineBytes = 64;

/// What turns a stored nibble into u: s4 is shifted by 8, progressive codes are unsigned already.
template <Weights Kind>
constexpr uint8_t kNibbleMask = Kind == Weights::kProgressive ? 0 : 8;

/// Scales of a block lie far from those of the block before: no prefetcher of the CPU finds them.
template <Weights Kind>
inline void prefetch_scales(const GemmArgs& args, int64_t stored_row, int64_t block) {
  if (block >= args.blocks) return;
  const int64_t at = block * args.stored_rows + stored_row;
  if constexpr (Kind == Weights::kGroup) __builtin_prefetch(args.group_scale + at);
  if constexpr (Kind == Weights::kProgressive) {
    __builtin_prefetch(args.multiplier + at);
    __builtin_prefetch(args.offset + at);
  }
}

template <class Isa, Weights Kind, bool Chains, int T>
void few_tokens_of(const GemmArgs& args, const TileUnits& units, int64_t token, float* y) {
  Totals totals[T][kUnits];
  memset(totals, 0, sizeof(totals));
  const int64_t tile_row = units.tile * kTileRows;
  const uint8_t* packed = args.packed + units.tile * args.blocks * kTileBytes;
  for (int64_t block = 0; block < args.blocks; ++block, packed += kTileBytes) {
    const int8_t* x[T];
    int32_t code_sum[T];
    float x_scale[T];
    for (int t = 0; t < T; ++t) {
      x[t] = args.expanded + ((token + t) * args.blocks + block) * 2 * kBlockChannels;
      code_sum[t] = args.block_sums[(token + t) * args.blocks + block];
      x_scale[t] = Chains ? block_scale(args, token + t, block) : 0.0F;
    }
    for (int64_t unit = units.begin; unit < units.end; ++unit) {
      const int64_t stored_row = tile_row + unit * kUnitRows;
      typename Isa::Ints sums[T];
      Isa::template block_sums<T>(packed + unit * kUnitBytes, kNibbleMask<Kind>, x, sums);
      prefetch_scales<Kind>(args, stored_row, block + 2);
      const auto scales = BlockScales<Isa, Kind>::load(args, stored_row, block);
      for (int t = 0; t < T; ++t) {
        add_blocks<Isa, Kind, Chains>(scales, code_sum[t], x_scale[t], sums[t], totals[t][unit]);
        close_blocks<Isa, Chains>(args, token + t, block + 1, totals[t][unit]);
      }
    }
  }
  for (int t = 0; t < T; ++t) {
    for (int64_t unit = units.begin; unit < units.end; ++unit) {
      finish<Isa, Chains>(args, tile_row + unit * kUnitRows, token + t, totals[t][unit],
                          y + t * kTileRows + unit * kUnitRows);
    }
  }
}

/// Blocks [begin, end) of channels.
struct BlockRange {
  int64_t begin;
  int64_t end;
};

/// The blocks from `begin` that one panel holds: at most 8, within a chain and a segment.
template <bool Chains>
inline BlockRange panel_blocks(const GemmArgs& args, int64_t begin) {
  int64_t end = begin + kChainBlocks;
  if (Chains) end = begin / kChainBlocks * kChainBlocks + kChainBlocks;
  if (!Chains && begin < args.int4_blocks && end > args.int4_blocks) end = args.int4_blocks;
  return {begin, end < args.blocks ? end : args.blocks};
}

template <class Isa>
void decode_panel(const GemmArgs& args, int64_t tile, BlockRange blocks, uint8_t mask,
                  uint8_t* panel) {
  const uint8_t* packed = args.packed + (tile * args.blocks + blocks.begin) * kTileBytes;
  for (int64_t block = 0; block < blocks.end - blocks.begin; ++block, packed += kTileBytes) {
    for (int64_t unit = 0; unit < kUnits; ++unit) {
      uint8_t* out = panel + unit * kUnitPanelBytes + block * kBlockPanelBytes;
      Isa::decode_unit(packed + unit * kUnitBytes, mask, out);
      Isa::decode_unit(packed + kTileBytes / 2 + unit * kUnitBytes, mask,
                       out + kBlockPanelBytes / 2);
    }
  }
}

/// Brings the weights of the panel after this one into the cache, a few lines per call, while the
/// present panel is multiplied.
struct NextPanel {
  const uint8_t* at;
  int64_t lines_per_call;

  void fetch_some() {
    for (int64_t i = 0; i < lines_per_call; ++i) __builtin_prefetch(at + i * kLineBytes, 0, 2);
    at += lines_per_call * kLineBytes;
  }
};

/// Some blocks of kPanelUnits units of a panel times at most kPanelBlockTokens tokens.
template <class Isa, Weights Kind, bool Chains>
void multiply_units(const GemmArgs& args, int64_t stored_row, BlockRange blocks,
                    const TokenRange& tokens, const uint8_t* panel, Totals* totals) {
  const int64_t k = args.blocks * kBlockChannels;
  alignas(64) int32_t sums[Isa::kPanelUnits][Isa::kPanelBlockTokens][16];
  Isa::panel_sums(panel, (blocks.end - blocks.begin) * kBlockChannels / 4,
                  args.codes + tokens.begin * k + blocks.begin * kBlockChannels, k, tokens.count,
                  sums);
  BlockScales<Isa, Kind> scales[Isa::kPanelUnits];
  for (int64_t u = 0; u < Isa::kPanelUnits; ++u) {
    scales[u] = BlockScales<Isa, Kind>::load(args, stored_row + u * kUnitRows, blocks.begin);
  }
  for (int64_t i = 0; i < tokens.count; ++i) {
    const int64_t token = tokens.begin + i;
    int32_t code_sum = 0;
    for (int64_t b = blocks.begin; b < blocks.end; ++b) {
      code_sum += args.block_sums[token * args.blocks + b];
    }
    const float x_scale = Chains ? block_scale(args, token, blocks.begin) : 0.0F;
    for (int64_t u = 0; u < Isa::kPanelUnits; ++u) {
      add_blocks<Isa, Kind, Chains>(scales[u], code_sum, x_scale, Isa::load(sums[u][i]),
                                    totals[i * kUnits + u]);
    }
  }
}

/// One panel times all `tokens`, in groups of about equal size.
template <class Isa, Weights Kind, bool Chains>
void multiply_panel(const GemmArgs& args, int64_t tile, BlockRange blocks, const TokenRange& tokens,
                    const uint8_t* panel, Totals* totals) {
  constexpr bool kWhole = Kind == Weights::kChannel && !Chains;
  const int64_t step = kWhole ? blocks.end - blocks.begin : 1;
  const int64_t groups = (tokens.count + Isa::kPanelBlockTokens - 1) / Isa::kPanelBlockTokens;
  const int64_t group = (tokens.count + groups - 1) / groups;
  const int64_t calls = kUnits / Isa::kPanelUnits * groups;
  const int64_t lines = (blocks.end - blocks.begin) * kTileBytes / kLineBytes;
  NextPanel next{args.packed + (tile * args.blocks + blocks.end) * kTileBytes,
                 (lines + calls - 1) / calls};
  for (int64_t unit = 0; unit < kUnits; unit += Isa::kPanelUnits) {
    const uint8_t* unit_panel = panel + unit * kUnitPanelBytes;
    for (int64_t t = 0; t < tokens.count; t += group) {
      const int64_t left = tokens.count - t;
      const TokenRange some{tokens.begin + t, left < group ? left : group};
      next.fetch_some();
      for (int64_t b = blocks.begin; b < blocks.end; b += step) {
        multiply_units<Isa, Kind, Chains>(args, tile * kTileRows + unit * kUnitRows, {b, b + step},
                                          some, unit_panel + (b - blocks.begin) * kBlockPanelBytes,
                                          totals + t * kUnits + unit);
      }
    }
  }
}

template <class Isa, Weights Kind, bool Chains>
void many_tokens_of(const GemmArgs& args, int64_t tile, const TokenRange& tokens,
                    const Scratch& scratch, float* y) {
  auto* totals = reinterpret_cast<Totals*>(scratch.totals);
  const int64_t num_totals = tokens.count * kUnits;
  memset(totals, 0, sizeof(Totals) * static_cast<size_t>(num_totals));
  for (BlockRange blocks = panel_blocks<Chains>(args, 0); blocks.begin < args.blocks;
       blocks = panel_blocks<Chains>(args, blocks.end)) {
    decode_panel<Isa>(args, tile, blocks, kNibbleMask<Kind>, scratch.panel);
    multiply_panel<Isa, Kind, Chains>(args, tile, blocks, tokens, scratch.panel, totals);
    for (int64_t i = 0; i < num_totals; ++i) {
      close_blocks<Isa, Chains>(args, tokens.begin + i / kUnits, blocks.end, totals[i]);
    }
  }
  for (int64_t i = 0; i < num_totals; ++i) {
    const int64_t unit_row = i % kUnits * kUnitRows;
    finish<Isa, Chains>(args, tile * kTileRows + unit_row, tokens.begin + i / kUnits, totals[i],
                        y + i / kUnits * kTileRows + unit_row);
  }
}

/// Calls body(weights, chains) with what args ask for as constants.
template <typename Body>
void with_modes(const GemmArgs& args, Body&& body) {
  using Channel = Constant<Weights, Weights::kChannel>;
  using Group = Constant<Weights, Weights::kGroup>;
  using Progressive = Constant<Weights, Weights::kProgressive>;
  using Yes = Constant<bool, true>;
  using No = Constant<bool, false>;
  if (args.group_scale != nullptr) return body(Group{}, Yes{});
  if (args.multiplier != nullptr) {
    return args.block_scales ? body(Progressive{}, Yes{}) : body(Progressive{}, No{});
  }
  return args.block_scales ? body(Channel{}, Yes{}) : body(Channel{}, No{});
}

template <class Isa>
void few_tokens(const GemmArgs& args, const TileUnits& units, const TokenRange& tokens, float* y) {
  with_modes(args, [&](auto weights, auto chains) {
    constexpr Weights kKind = decltype(weights)::value;
    constexpr bool kChains = decltype(chains)::value;
    switch (tokens.count) {
      case 1:
        return few_tokens_of<Isa, kKind, kChains, 1>(args, units, tokens.begin, y);
      case 2:
        return few_tokens_of<Isa, kKind, kChains, 2>(args, units, tokens.begin, y);
      case 3:
        return few_tokens_of<Isa, kKind, kChains, 3>(args, units, tokens.begin, y);
      default:
        return few_tokens_of<Isa, kKind, kChains, 4>(args, units, tokens.begin, y);
    }
  });
}

template <class Isa>
void many_tokens(const GemmArgs& args, int64_t tile, const TokenRange& tokens,
                 const Scratch& scratch, float* y) {
  with_modes(args, [&](auto weights, auto chains) {
    many_tokens_of<Isa, decltype(weights)::value, decltype(chains)::value>(args, tile, tokens,
                                                                           scratch, y);
  });
}

/// See GemmIsa::expand_codes.
inline void expand_codes(const int8_t* codes, int64_t blocks, int8_t* expanded) {
  for (int64_t i = 0; i < blocks * 4; ++i, codes += 32, expanded += 64) {
    for (int t = 0; t < 4; ++t) {
      for (int r = 0; r < 4; ++r) {
        memcpy(expanded + (t * 4 + r) * 4, codes + 16 * (r >> 1) + 4 * t, 4);
      }
    }
  }
}

}  // namespace
}  // namespace comet::formats::w4ax::cpu
