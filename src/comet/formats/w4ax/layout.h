// tile128, the packing of w4ax weights (docs/formats.md §4): index arithmetic of one nibble.
// A tile is 128 rows × 128 channels = [2 halves of 64 channels][8 units of 16 rows][512 bytes];
// a unit is 32 lanes × 16 bytes. Callers: pack, unpack, the scalar reference, tests.
#pragma once

#include <cstdint>

#include "comet/formats/quantized_weight.h"

namespace comet::formats::w4ax {

constexpr int64_t kTileRows = 128;
constexpr int64_t kTileBytes = kTileRows * kBlock / 2;
constexpr int64_t kUnitRows = 16;
constexpr int64_t kUnitBytes = 512;

struct NibblePosition {
  int64_t byte = 0;
  int shift = 0;  // 0 = low nibble, 4 = high
};

/// Where weight (row, k) of a matrix of `num_blocks` blocks of channels lies.
inline NibblePosition nibble_position(int64_t row, int64_t k, int64_t num_blocks) {
  const int64_t tile = (row / kTileRows) * num_blocks + k / kBlock;
  const int64_t half = k % kBlock / 64;
  const int64_t unit = row % kTileRows / kUnitRows;
  const int64_t g = row % 8;            // lane = 4g + t
  const int64_t upper = row % 16 / 8;   // words 1 and 3 hold row g + 8
  const int64_t t = k % 16 / 4;         // four channels of a word
  const int64_t sixteen = k % 32 / 16;  // words 2 and 3 hold channels 16…31
  const int64_t word = 2 * sixteen + upper;
  const int64_t byte = tile * kTileBytes + half * (kTileBytes / 2) + unit * kUnitBytes +
                       (4 * g + t) * 16 + word * 4 + k % 4;
  return {byte, k % 64 >= 32 ? 4 : 0};
}

/// Two's-complement s4 in the low four bits.
inline int sign_extend4(int nibble) { return (nibble ^ 8) - 8; }

inline int64_t round_up(int64_t x, int64_t multiple) {
  return (x + multiple - 1) / multiple * multiple;
}

}  // namespace comet::formats::w4ax
