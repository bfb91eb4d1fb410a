// Character classes of Unicode as Python's `tokenizers` sees them. The tables behind it are made by
// tools/make_unicode_tables.py. Callers: the pre-tokenizer and the added-token matcher.
#pragma once

#include <cstdint>
#include <span>

namespace comet::text {

// Bits of a code point's class.
inline constexpr uint8_t kLetter = 1;  // \p{L}
inline constexpr uint8_t kNumber = 2;  // \p{N}
inline constexpr uint8_t kSpace = 4;   // \s
inline constexpr uint8_t kWord = 8;    // \w: what `single_word` of an added token looks at

inline constexpr uint32_t kNumAscii = 128;
inline constexpr uint32_t kNumCodePoints = 0x110000;

/// A code point outside ASCII that equals an ASCII letter in the case-insensitive contractions.
struct ContractionFold {
  uint32_t code_point;
  char letter;
};

std::span<const uint8_t, kNumAscii> ascii_classes();
/// Runs of equal class in order: first code point << 4 | class; the first run starts at 0.
std::span<const uint32_t> class_runs();
std::span<const ContractionFold> contraction_folds();

/// The class bits of any code point below kNumCodePoints.
uint8_t class_of(uint32_t code_point);

}  // namespace comet::text
