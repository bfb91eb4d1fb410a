// Unicode normalization form C as Python's `tokenizers` has it. Caller: the normalizer.
#pragma once

#include <string>
#include <string_view>

namespace comet::text {

/// `text` must be valid UTF-8; O(n log n).
std::string to_nfc(std::string_view text);

}  // namespace comet::text
