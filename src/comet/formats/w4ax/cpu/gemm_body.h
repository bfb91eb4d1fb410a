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
//   panel_sums(panel, unit_stride, quads, x, x_stride, count, sums)   Σ u·q over 4·quads channels
// with kPanelUnits and kPanelBlockTokens = the most units and tokens of panel_sums.
#pragma once

#include "comet/formats/w4ax/cpu/gemm_epilogue.h"

namespace comet::formats::w4ax::cpu {
namespace {

constexpr int64_t kLineBytes = 64;

/// What turns a stored nibble into u: s4 is shifted by 8, progressive codes are unsigned already.
template <Weights kWeights>
constexpr uint8_t kNibbleMask = kWeights == Weights::kProgressive ? 0 : 8;

template <class Isa, Weights kWeights, bool kChains, int T>
void few_tokens_of(const GemmArgs& args, int64_t tile, int64_t unit_begin, int64_t unit_end,
                   int64_t token, float* y) {
  Totals totals[T][kUnits];
  memset(totals, 0, sizeof(totals));
  const uint8_t* packed = args.packed + tile * args.blocks * kTileBytes;
  for (int64_t block = 0; block < args.blocks; ++block, packed += kTileBytes) {
    const int8_t* x[T];
    int32_t code_sum[T];
    float x_scale[T];
    for (int t = 0; t < T; ++t) {
      x[t] = args.expanded + ((token + t) * args.blocks + block) * 256;
      code_sum[t] = args.block_sums[(token + t) * args.blocks + block];
      x_scale[t] = kChains ? block_scale(args, token + t, block) : 0.0F;
    }
    for (int64_t unit = unit_begin; unit < unit_end; ++unit) {
      typename Isa::Ints sums[T];
      Isa::template block_sums<T>(packed + unit * kUnitBytes, kNibbleMask<kWeights>, x, sums);
      const auto scales =
          BlockScales<Isa, kWeights>::load(args, tile * kTileRows + unit * kUnitRows, block);
      for (int t = 0; t < T; ++t) {
        add_blocks<Isa, kWeights, kChains>(scales, code_sum[t], x_scale[t], sums[t],
                                           totals[t][unit]);
        close_blocks<Isa, kChains>(args, token + t, block + 1, totals[t][unit]);
      }
    }
  }
  for (int t = 0; t < T; ++t) {
    for (int64_t unit = unit_begin; unit < unit_end; ++unit) {
      finish<Isa, kChains>(args, tile * kTileRows + unit * kUnitRows, token + t, totals[t][unit],
                           y + t * kTileRows + unit * kUnitRows);
    }
  }
}

/// Blocks [begin, end) that one panel holds: at most 8, within a chain and a segment.
template <bool kChains>
inline int64_t panel_end(const GemmArgs& args, int64_t begin) {
  int64_t end = begin + kChainBlocks;
  if (kChains) end = begin / kChainBlocks * kChainBlocks + kChainBlocks;
  if (!kChains && begin < args.int4_blocks && end > args.int4_blocks) end = args.int4_blocks;
  return end < args.blocks ? end : args.blocks;
}

/// The panel of one unit: [blocks · 32 quads of channels][16 rows][4] bytes.
constexpr int64_t kUnitPanelBytes = kPanelBytes / kUnits;
constexpr int64_t kBlockPanelBytes = kUnitRows * kBlockChannels;

template <class Isa>
void decode_panel(const GemmArgs& args, int64_t tile, int64_t begin, int64_t end, uint8_t mask,
                  uint8_t* panel) {
  const uint8_t* packed = args.packed + (tile * args.blocks + begin) * kTileBytes;
  for (int64_t block = 0; block < end - begin; ++block, packed += kTileBytes) {
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

/// One block (or, kWhole, all of them) of two units of a panel times at most kPanelBlockTokens.
template <class Isa, Weights kWeights, bool kChains>
void multiply_units(const GemmArgs& args, int64_t stored_row, int64_t token, int64_t num,
                    int64_t block, int64_t step, const uint8_t* panel, Totals* totals) {
  const int64_t k = args.blocks * kBlockChannels;
  alignas(64) int32_t sums[Isa::kPanelUnits][Isa::kPanelBlockTokens][16];
  Isa::panel_sums(panel, kUnitPanelBytes, step * kBlockChannels / 4,
                  args.codes + token * k + block * kBlockChannels, k, num, sums);
  BlockScales<Isa, kWeights> scales[Isa::kPanelUnits];
  for (int64_t u = 0; u < Isa::kPanelUnits; ++u) {
    scales[u] = BlockScales<Isa, kWeights>::load(args, stored_row + u * kUnitRows, block);
  }
  for (int64_t i = 0; i < num; ++i) {
    const int32_t* block_sums = args.block_sums + (token + i) * args.blocks + block;
    int32_t code_sum = block_sums[0];
    for (int64_t b = 1; b < step; ++b) code_sum += block_sums[b];
    const float x_scale = kChains ? block_scale(args, token + i, block) : 0.0F;
    for (int64_t u = 0; u < Isa::kPanelUnits; ++u) {
      add_blocks<Isa, kWeights, kChains>(scales[u], code_sum, x_scale, Isa::load(sums[u][i]),
                                         totals[i * kUnits + u]);
    }
  }
}

/// One panel times `count` tokens, in groups of equal size.
template <class Isa, Weights kWeights, bool kChains>
void multiply_panel(const GemmArgs& args, int64_t tile, int64_t token, int64_t count, int64_t begin,
                    int64_t end, const uint8_t* panel, Totals* totals) {
  constexpr bool kWhole = kWeights == Weights::kChannel && !kChains;
  const int64_t step = kWhole ? end - begin : 1;
  const int64_t groups = (count + Isa::kPanelBlockTokens - 1) / Isa::kPanelBlockTokens;
  const int64_t group = (count + groups - 1) / groups;
  const int64_t calls = kUnits / Isa::kPanelUnits * groups;
  const int64_t lines = (end - begin) * kTileBytes / kLineBytes;
  NextPanel next{args.packed + (tile * args.blocks + end) * kTileBytes,
                 (lines + calls - 1) / calls};
  for (int64_t unit = 0; unit < kUnits; unit += Isa::kPanelUnits) {
    for (int64_t t = 0; t < count; t += group) {
      const int64_t num = count - t < group ? count - t : group;
      next.fetch_some();
      for (int64_t block = begin; block < end; block += step) {
        multiply_units<Isa, kWeights, kChains>(
            args, tile * kTileRows + unit * kUnitRows, token + t, num, block, step,
            panel + unit * kUnitPanelBytes + (block - begin) * kBlockPanelBytes,
            totals + t * kUnits + unit);
      }
    }
  }
}

template <class Isa, Weights kWeights, bool kChains>
void many_tokens_of(const GemmArgs& args, int64_t tile, int64_t token, int64_t count,
                    const Scratch& scratch, float* y) {
  auto* totals = reinterpret_cast<Totals*>(scratch.totals);
  memset(totals, 0, sizeof(Totals) * static_cast<size_t>(count * kUnits));
  for (int64_t begin = 0; begin < args.blocks;) {
    const int64_t end = panel_end<kChains>(args, begin);
    decode_panel<Isa>(args, tile, begin, end, kNibbleMask<kWeights>, scratch.panel);
    multiply_panel<Isa, kWeights, kChains>(args, tile, token, count, begin, end, scratch.panel,
                                           totals);
    for (int64_t i = 0; i < count * kUnits; ++i) {
      close_blocks<Isa, kChains>(args, token + i / kUnits, end, totals[i]);
    }
    begin = end;
  }
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t unit = 0; unit < kUnits; ++unit) {
      finish<Isa, kChains>(args, tile * kTileRows + unit * kUnitRows, token + t,
                           totals[t * kUnits + unit], y + t * kTileRows + unit * kUnitRows);
    }
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
void few_tokens(const GemmArgs& args, int64_t tile, int64_t unit_begin, int64_t unit_end,
                int64_t token, int64_t count, const Scratch& /*scratch*/, float* y) {
  with_modes(args, [&](auto weights, auto chains) {
    constexpr Weights kWeights = decltype(weights)::value;
    constexpr bool kChains = decltype(chains)::value;
    switch (count) {
      case 1:
        return few_tokens_of<Isa, kWeights, kChains, 1>(args, tile, unit_begin, unit_end, token, y);
      case 2:
        return few_tokens_of<Isa, kWeights, kChains, 2>(args, tile, unit_begin, unit_end, token, y);
      case 3:
        return few_tokens_of<Isa, kWeights, kChains, 3>(args, tile, unit_begin, unit_end, token, y);
      default:
        return few_tokens_of<Isa, kWeights, kChains, 4>(args, tile, unit_begin, unit_end, token, y);
    }
  });
}

template <class Isa>
void many_tokens(const GemmArgs& args, int64_t tile, int64_t token, int64_t count,
                 const Scratch& scratch, float* y) {
  with_modes(args, [&](auto weights, auto chains) {
    many_tokens_of<Isa, decltype(weights)::value, decltype(chains)::value>(args, tile, token, count,
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
