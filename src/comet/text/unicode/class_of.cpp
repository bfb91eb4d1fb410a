#include <algorithm>

#include "comet/text/unicode/unicode_tables.h"

namespace comet::text {

uint8_t class_of(uint32_t code_point) {
  if (code_point < kNumAscii) return ascii_classes()[code_point];
  const auto runs = class_runs();
  // The last run that starts at or before the code point: 0xF is above every class.
  const auto after = std::upper_bound(runs.begin(), runs.end(), code_point << 4 | 0xF);
  return *std::prev(after) & 0xF;
}

}  // namespace comet::text
