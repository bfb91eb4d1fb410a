// UTF-8: decoding, checking, and Python's errors='replace' rule. Everything in the room that turns
// bytes into code points goes through here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace comet::text {

struct CodePoint {
  uint32_t value;
  uint32_t num_bytes;
};

/// The code point that starts at `text[at]`. `text` must be valid UTF-8 and `at` a boundary in it.
CodePoint code_point_at(std::string_view text, size_t at);

/// The code point that ends right before `text[end]`; same promises, and end > 0.
CodePoint code_point_before(std::string_view text, size_t end);

/// `code_point` is below 0x110000 and no surrogate.
void append_utf8(uint32_t code_point, std::string& out);

[[nodiscard]] bool is_valid_utf8(std::string_view bytes);

/// Every maximal subpart of an ill-formed sequence becomes one U+FFFD (Unicode 15, §3.9, "U+FFFD
/// Substitution of Maximal Subparts"), as bytes.decode(errors='replace') has it.
std::string replace_invalid_utf8(std::string_view bytes);

/// Moves what is decided from `pending` into the result, ill-formed parts replaced as above. At
/// most 3 bytes stay behind: the well-formed start of a code point whose rest may still come.
std::string take_complete_utf8(std::string& pending);

}  // namespace comet::text
