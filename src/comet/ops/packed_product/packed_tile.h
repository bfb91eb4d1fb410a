// PackedTile: rows of x times one panel of packed weights, and what one instruction set does with
// it. Plain structs only: packed_tile_<isa>.cpp are compiled for one set. Caller: packed_product.
#pragma once

#include <stdint.h>

namespace comet {

/// What is done to a sum before it is stored.
enum class PackedEnd : uint8_t {
  kPlain,
  kGelu,  // out = GELU(sum + bias)
  kAdd,   // out += sum + bias
};

// A group of rows lies in chunks of kPackedDepth values: [chunk][row][kPackedStride], so that a
// kernel reaches all rows from one pointer with constant distances, whatever k is. The distance is
// a cache line more than the depth: rows must not share few cache sets.
constexpr int64_t kPackedDepth = 256;
constexpr int64_t kPackedStride = kPackedDepth + 16;

struct PackedTile {
  const float* a = nullptr;  // the group's first chunk
  const float* b = nullptr;  // the panel: [k][width], width of the set or half of it
  int64_t k = 0;
  int64_t num_rows = 0;         // 1 … PackedIsa::rows
  int64_t num_columns = 0;      // 1 … PackedIsa::width; up to half of it: the panel is a half one
  const float* bias = nullptr;  // [num_columns]; null: none
  PackedEnd end = PackedEnd::kPlain;
  float* out = nullptr;
  int64_t out_stride = 0;
  // Fetched into L2 on the way, `ahead_step` bytes with every value of k: a part of what comes
  // next.
  const void* ahead = nullptr;
  int64_t ahead_step = 0;
};

struct PackedIsa {
  int64_t rows;   // of a group
  int64_t width;  // columns of a panel: two vectors
  void (*multiply)(const PackedTile& tile);
  /// `num_rounds` rounds of products and sums in registers, more than `multiply` can do in the
  /// time: the roof of benchmarks. Adds what the compiler must believe is wanted to `sink`; returns
  /// the multiply-accumulates.
  int64_t (*spin)(int64_t num_rounds, float& sink);
};

extern const PackedIsa kPackedPortable;
extern const PackedIsa kPackedAvx2;
extern const PackedIsa kPackedAvx512;

}  // namespace comet
