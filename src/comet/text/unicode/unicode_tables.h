// Character classes of Unicode as Python's `tokenizers` sees them. The tables behind it are made by
// tools/make_unicode_tables.py. Callers: the normalizer, the pre-tokenizers, the added-token
// matcher.
#pragma once

#include <cstdint>
#include <span>

namespace comet::text {

// Bits of a code point's class.
inline constexpr uint8_t kLetter = 1;        // \p{L}
inline constexpr uint8_t kNumber = 2;        // \p{N}
inline constexpr uint8_t kSpace = 4;         // \s
inline constexpr uint8_t kWord = 8;          // \w: what `single_word` of an added token looks at
inline constexpr uint8_t kNumeric = 16;      // what the Digits pre-tokenizer isolates
inline constexpr uint8_t kPunctuation = 32;  // what the Punctuation pre-tokenizer isolates

inline constexpr uint32_t kNumAscii = 128;
inline constexpr uint32_t kNumCodePoints = 0x110000;

/// A code point outside ASCII that equals an ASCII letter in the case-insensitive contractions.
struct ContractionFold {
  uint32_t code_point;
  char letter;
};

/// Code points [first, last], which the linked PCRE2 may not know, and a known one that has their
/// category, script and UTF-8 length.
struct Substitute {
  uint32_t first;
  uint32_t last;
  uint32_t stand_in;
};

std::span<const uint8_t, kNumAscii> ascii_classes();
/// Runs of equal class in order: first code point << 8 | class; the first run starts at 0.
std::span<const uint32_t> class_runs();
std::span<const ContractionFold> contraction_folds();

/// In order: what utf8proc would reorder or compose, but `tokenizers`, with older Unicode, does
/// not.
std::span<const uint32_t> late_starters();
/// In order, disjoint.
std::span<const Substitute> substitutes();

/// The class bits of any code point below kNumCodePoints.
uint8_t class_of(uint32_t code_point);

}  // namespace comet::text
