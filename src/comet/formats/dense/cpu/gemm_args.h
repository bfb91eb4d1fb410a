// What the dense CPU kernels are given: plain structs only, because files compiled for one
// instruction set include this.
#pragma once

#include <stdint.h>

namespace comet::formats::dense_cpu {

/// E4M3 serves w8a8-fp8: weights and inputs are those codes times 2⁻⁸, exact in FP32 (no NaN).
enum class WeightType { kBF16, kF16, kF32, kE4M3 };

/// y [tokens, n] = x · Wᵀ for one part of a linear.
struct GemmArgs {
  const void* weight = nullptr;  // [n, k], row-major
  WeightType type = WeightType::kBF16;
  int64_t n = 0;
  int64_t k = 0;
  const float* x = nullptr;  // [tokens, x_stride], in the order `arrange` makes
  int64_t k_arranged = 0;    // k rounded up to a multiple of kArrangedMultiple
  int64_t x_stride = 0;      // k_arranged + kStridePadding
  int64_t tokens = 0;
  float* out = nullptr;  // first column of the part
  int64_t out_stride = 0;
};

constexpr int64_t kArrangedMultiple = 32;  // zero-padded channels of an arranged row
// One cache line more per row: rows of a power of two would all fall into the same few cache sets.
constexpr int64_t kStridePadding = 16;
/// Up to so many tokens weights are read in place; E4M3 costs more to widen for every few tokens.
constexpr int64_t few_tokens_limit(WeightType type) { return type == WeightType::kE4M3 ? 12 : 32; }
// Blocking of the many-token product: a strip of weights as FP32 stays in L1, its vector sums in
// L2.
constexpr int64_t kStripRows = 32;
constexpr int64_t kStripChannels = 512;
constexpr int64_t kStripTokens = 96;
constexpr int64_t kMaxLanes = 16;
constexpr int64_t kStripStride = kStripChannels + kStridePadding;
constexpr int64_t kScratchFloats = kStripRows * (kStripStride + kStripTokens * kMaxLanes);

/// One instruction set. Sums of an output are taken in an order that depends on neither the number
/// of tokens nor that of threads: one vector of partial sums along k, then a fixed tree.
struct GemmIsa {
  /// x [k] → out [x_stride] zero-padded; BF16, E4M3: even channels, then odd ones, of every two
  /// vectors.
  void (*arrange)(const GemmArgs& args, const float* x, float* out);
  /// The same of E4M3 codes.
  void (*arrange_e4m3)(const GemmArgs& args, const uint8_t* x, float* out);
  /// Rows [row_begin, row_end) for all tokens; scratch holds kScratchFloats.
  void (*rows)(const GemmArgs& args, int64_t row_begin, int64_t row_end, float* scratch);
};

extern const GemmIsa kPortableIsa;
extern const GemmIsa kAvx2Isa;
extern const GemmIsa kAvx512Isa;

}  // namespace comet::formats::dense_cpu
