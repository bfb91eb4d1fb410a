// What the w4a16 CPU kernels are given: plain structs only, because files compiled for one
// instruction set include this.
#pragma once

#include <stdint.h>

namespace comet::formats::w4a16_cpu {

enum class ScaleType { kBF16, kF16, kF32 };

/// y [tokens, n] = x · Wᵀ for one part of a linear; k is a multiple of 128.
struct GemmArgs {
  const uint8_t* words = nullptr;  // [n, k/8] of 32 bits, row-major; nibble i is channel 8j + i
  const void* scales = nullptr;    // [n, k/group]
  const uint8_t* zeros = nullptr;  // [n, k/group], the nibble that stands for 0; nullptr: all 8
  ScaleType type = ScaleType::kBF16;
  int64_t n = 0;
  int64_t k = 0;
  int64_t group = 128;       // channels of a scale: 32, 64 or 128
  const float* x = nullptr;  // [tokens, x_stride] as `arrange` makes them
  int64_t x_stride = 0;
  int64_t tokens = 0;
  float* out = nullptr;  // first column of the part
  int64_t out_stride = 0;
};

constexpr int64_t kBlockChannels = 128;  // k is a multiple of it
constexpr int64_t kMinGroup = 32;
constexpr int64_t kMaxLanes = 16;
// Rows of a power of two would all fall into the same few cache sets: one line more.
constexpr int64_t kStridePadding = 16;
// Blocking of the many-token product: a strip of decoded weights and its vector sums stay in L2.
constexpr int64_t kStripRows = 32;
constexpr int64_t kStripChannels = 1024;
constexpr int64_t kStripTokens = 96;
constexpr int64_t kStripStride = kStripChannels + kStridePadding;
constexpr int64_t kStripGroups = kStripChannels / kMinGroup;
constexpr int64_t kMaxChannels = 131072;  // of a row, so that its scales fit into scratch
constexpr int64_t kScratchFloats =
    kStripRows * (kStripStride + kStripTokens * kMaxLanes + 2 * kStripGroups);

/// Floats of an arranged row: the channels, then at most kMaxLanes offsets per group.
constexpr int64_t arranged_floats(int64_t k, int64_t group) {
  return k + k / group * kMaxLanes + kStridePadding;
}

/// One instruction set. Sums of an output are taken in an order that depends on neither the number
/// of tokens nor that of threads.
struct GemmIsa {
  int64_t few_tokens;       // up to here nibbles are decoded anew for every few tokens
  int64_t vector_channels;  // of a vector of words: a group has no fewer
  /// x [k] → out [x_stride], in the order in which the nibbles of vectors of words come.
  void (*arrange)(const GemmArgs& args, const float* x, float* out);
  /// Rows [row_begin, row_end) for all tokens; scratch holds kScratchFloats.
  void (*rows)(const GemmArgs& args, int64_t row_begin, int64_t row_end, float* scratch);
};

extern const GemmIsa kPortableIsa;
extern const GemmIsa kAvx2Isa;
extern const GemmIsa kAvx512Isa;
// For groups that are shorter than a vector of words.
extern const GemmIsa kAvx2ShortGroupsIsa;
extern const GemmIsa kAvx512ShortGroupsIsa;

}  // namespace comet::formats::w4a16_cpu
