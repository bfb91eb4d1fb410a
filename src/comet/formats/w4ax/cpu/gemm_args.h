// What the w4ax CPU kernels are given: plain structs only, because files compiled for one
// instruction set include this.
#pragma once

#include <stdint.h>

namespace comet::formats::w4ax::cpu {

/// One linear times the codes of some tokens; layouts as in w4ax.h and layout.h.
struct GemmArgs {
  const uint8_t* packed = nullptr;        // [tiles, blocks, 8192]
  const float* channel_scale = nullptr;   // [stored_rows]; null for group
  const uint16_t* group_scale = nullptr;  // [blocks, stored_rows] F16; group only
  const uint8_t* multiplier = nullptr;    // [blocks, stored_rows]; progressive only
  const int8_t* offset = nullptr;         // likewise
  int64_t stored_rows = 0;                // tiles · 128
  int64_t blocks = 0;
  int64_t int4_blocks = 0;    // the INT8 segment starts here
  bool block_scales = false;  // S1: x_scales has a scale per block, else two
  int64_t tokens = 0;
  const int8_t* codes = nullptr;        // [tokens, blocks · 128]
  const int8_t* expanded = nullptr;     // [tokens, blocks · 256], see expand_codes
  const float* x_scales = nullptr;      // [tokens, blocks] or [tokens, 2]
  const int32_t* block_sums = nullptr;  // [tokens, blocks]
};

constexpr int64_t kBlockChannels = 128;
constexpr int64_t kTileRows = 128;
constexpr int64_t kTileBytes = 8192;
constexpr int64_t kUnits = 8;  // of 16 rows, in a tile
constexpr int64_t kUnitRows = 16;
constexpr int64_t kUnitBytes = 512;  // of one half (64 channels)
constexpr int64_t kChainBlocks = 8;
// Up to kDecodeTokens weights are decoded in registers, for kFewTokens at a time.
constexpr int64_t kDecodeTokens = 16;
constexpr int64_t kFewTokens = 4;
constexpr int64_t kPanelTokens = 96;  // tokens that share one decoded panel

/// Units [begin, end) of a tile.
struct TileUnits {
  int64_t tile = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

struct TokenRange {
  int64_t begin = 0;
  int64_t count = 0;
};

// A panel: 128 rows × 8 blocks, a byte a weight; of one unit [32 quads of channels a block][16
// rows][4].
constexpr int64_t kUnitPanelBytes = kUnitRows * kBlockChannels * kChainBlocks;
constexpr int64_t kBlockPanelBytes = kUnitRows * kBlockChannels;
constexpr int64_t kPanelBytes = kUnits * kUnitPanelBytes;
constexpr int64_t kTotals = 2 * kTileRows * kPanelTokens;

/// Scratch of one thread.
struct Scratch {
  uint8_t* panel = nullptr;  // kPanelBytes
  float* totals = nullptr;   // kTotals: two words per output of a tile
};

/// One instruction set.
struct GemmIsa {
  /// Codes of one token → the order of a line of tile128: for 32 channels, 16 words (t, r) of
  /// channels 16·(r >> 1) + 4t … + 3.
  void (*expand_codes)(const int8_t* codes, int64_t blocks, int8_t* expanded);
  /// y [count, 128] of some units of a tile, at most kFewTokens tokens; reads `expanded`.
  void (*few_tokens)(const GemmArgs& args, const TileUnits& units, const TokenRange& tokens,
                     float* y);
  /// The same for a whole tile and at most kPanelTokens tokens; reads `codes`.
  void (*many_tokens)(const GemmArgs& args, int64_t tile, const TokenRange& tokens,
                      const Scratch& scratch, float* y);
};

extern const GemmIsa kPortableIsa;
extern const GemmIsa kAvx2Isa;
extern const GemmIsa kAvx512VnniIsa;

}  // namespace comet::formats::w4ax::cpu
