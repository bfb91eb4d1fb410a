// The byte-level spelling of GPT-2: tokenizer.json writes each byte as one visible character, so
// that a vocabulary entry can hold any bytes. Callers: the tokenizer.json reader.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace comet::text {

/// The character that stands for `byte`, as UTF-8.
std::string byte_spelling(uint8_t byte);

/// The bytes that `spelling` (valid UTF-8) stands for; nothing where one of its characters stands
/// for no byte.
std::optional<std::string> spelled_bytes(std::string_view spelling);

}  // namespace comet::text
