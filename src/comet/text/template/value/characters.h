// Strings as Python sees them: lengths and positions count characters, white space and letter case
// are Unicode's. Every string is valid UTF-8. Callers: values, methods, filters and the lexer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace comet::text::jinja {

[[nodiscard]] size_t num_characters(std::string_view text);
/// Where character `char_idx` starts; the size of the text when there are fewer.
[[nodiscard]] size_t byte_of(std::string_view text, size_t char_idx);
/// The characters, each a part of `text`.
std::vector<std::string_view> characters(std::string_view text);

[[nodiscard]] bool is_space(uint32_t code_point);  // str.isspace, \s
[[nodiscard]] bool is_printable(uint32_t code_point);
[[nodiscard]] bool is_upper(uint32_t code_point);  // has another lower case
[[nodiscard]] bool is_lower(uint32_t code_point);  // has another upper case

enum class Side { kLeft, kRight, kBoth };
/// Without the characters of `chars` at the ends; of white space where `chars` is nullptr.
std::string_view strip(std::string_view text, const std::string_view* chars, Side side);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string swap_case(std::string_view text);
/// str.title(): a letter behind a letter is lower, every other one title case.
std::string title(std::string_view text);

/// str.splitlines(): the lines, with their ends when `keep_ends`.
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);
/// str.split() at white space; at most `max_splits` cuts, from the left or the right; −1: all.
std::vector<std::string_view> split_words(std::string_view text, int64_t max_splits, Side side);
/// str.split(separator) and rsplit; `separator` is not empty.
std::vector<std::string_view> split_at(std::string_view text, std::string_view separator,
                                       int64_t max_splits, Side side);

/// Where `wanted` first starts at or behind byte `from`; npos where it does not. Linear, unlike
/// std::string::find.
[[nodiscard]] size_t find_bytes(std::string_view text, std::string_view wanted, size_t from = 0);

void append_utf8(std::string& out, uint32_t code_point);

}  // namespace comet::text::jinja
