// Which values a random fill draws: element i comes from part i % 4 (16 bits) of the draw
// Rng(seed, stream).bits(i − i % 4), unless said. Callers: the fills of both devices (fill.h).
#pragma once

#include <cstdint>

namespace comet {

enum class RandomKind : int32_t {
  kTable16,  // table[part % 4096], 16-bit elements: BF16 of any distribution
  kS8,       // part % 255 − 127, bytes
  kE4M3,     // (part & 0x8F) | 0x30, bytes: ±[½, 2)
  kNibbles,  // byte i % 8 of bits(i / 8): uniform nibbles, in whatever order a format packs them
};

constexpr int64_t kRandomTableSize = 4096;

}  // namespace comet
