#include <algorithm>

#include "comet/text/unicode/unicode_tables.h"

namespace comet::text {

uint8_t class_of(uint32_t code_point) {
  if (code_point < kNumAscii) return ascii_classes()[code_point];
  const auto runs = class_runs();
  // The last run that starts at or before the code point: 0xFF is above every class.
  const auto after = std::upper_bound(runs.begin(), runs.end(), code_point << 8 | 0xFF);
  return *std::prev(after) & 0xFF;
}

}  // namespace comet::text
