// What the w4a16 CPU kernels are given: plain structs only, because files compiled for one
// instruction set include this.
#pragma once

#include <stdint.h>

namespace comet::formats::w4a16_cpu {

enum class ScaleType { kBF16, kF16 };

/// y [tokens, n] = x · Wᵀ for one part of a linear; k is a multiple of 128.
struct GemmArgs {
  const uint8_t* words = nullptr;    // [n, k/8] of 32 bits, row-major; nibble i is channel 8j + i
  const uint16_t* scales = nullptr;  // [n, k/128]
  ScaleType type = ScaleType::kBF16;
  int64_t n = 0;
  int64_t k = 0;
  const float* x = nullptr;  // [tokens, x_stride] as `arrange` makes them
  int64_t x_stride = 0;
  int64_t tokens = 0;
  float* out = nullptr;  // first column of the part
  int64_t out_stride = 0;
};

constexpr int64_t kGroup = 128;  // channels of a scale
constexpr int64_t kGroupBytes = kGroup / 2;
constexpr int64_t kMaxLanes = 16;
// Rows of a power of two would all fall into the same few cache sets: one line more.
constexpr int64_t kStridePadding = 16;
// Blocking of the many-token product: a strip of decoded weights and its vector sums stay in L2.
constexpr int64_t kStripRows = 32;
constexpr int64_t kStripChannels = 1024;
constexpr int64_t kStripTokens = 96;
constexpr int64_t kStripStride = kStripChannels + kStridePadding;
constexpr int64_t kMaxChannels = 131072;  // of a row, so that its scales fit into scratch
constexpr int64_t kScratchFloats = kStripRows * (kStripStride + kStripTokens * kMaxLanes);

/// Floats of an arranged row: the channels, then at most kMaxLanes offsets per group.
constexpr int64_t arranged_floats(int64_t k) { return k + k / kGroup * kMaxLanes + kStridePadding; }

/// One instruction set. Sums of an output are taken in an order that depends on neither the number
/// of tokens nor that of threads.
struct GemmIsa {
  int64_t few_tokens;  // up to here nibbles are decoded anew for every few tokens
  /// x [k] → out [x_stride], in the order in which the nibbles of vectors of words come.
  void (*arrange)(const GemmArgs& args, const float* x, float* out);
  /// Rows [row_begin, row_end) for all tokens; scratch holds kScratchFloats.
  void (*rows)(const GemmArgs& args, int64_t row_begin, int64_t row_end, float* scratch);
};

extern const GemmIsa kPortableIsa;
extern const GemmIsa kAvx2Isa;
extern const GemmIsa kAvx512Isa;

}  // namespace comet::formats::w4a16_cpu
