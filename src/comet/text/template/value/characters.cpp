#include "comet/text/template/value/characters.h"

#include <algorithm>
#include <cstring>

#include "comet/text/template/value/case_tables.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text::jinja {
namespace {

constexpr uint32_t kNumAscii = 0x80;

bool is_continuation(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

/// Appends the mapped character; false when the table leaves it as it is.
bool append_mapped(std::string& out, const CaseTable& table, uint32_t code_point) {
  const auto special = std::lower_bound(
      table.special.begin(), table.special.end(), code_point,
      [](const SpecialCase& entry, uint32_t value) { return entry.code_point < value; });
  if (special != table.special.end() && special->code_point == code_point) {
    out += special->text;
    return true;
  }
  auto run =
      std::upper_bound(table.runs.begin(), table.runs.end(), code_point,
                       [](uint32_t value, const CaseRun& entry) { return value < entry.first; });
  if (run == table.runs.begin()) return false;
  --run;
  if (code_point > run->last || (code_point - run->first) % run->stride != 0) return false;
  append_utf8(out, static_cast<uint32_t>(static_cast<int64_t>(code_point) + run->delta));
  return true;
}

void append_upper(std::string& out, uint32_t c) {
  if (c < kNumAscii) {
    out += static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  } else if (!append_mapped(out, upper_table(), c)) {
    append_utf8(out, c);
  }
}

void append_lower(std::string& out, uint32_t c) {
  if (c < kNumAscii) {
    out += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  } else if (!append_mapped(out, lower_table(), c)) {
    append_utf8(out, c);
  }
}

void append_title(std::string& out, uint32_t c) {
  if (c < kNumAscii || !append_mapped(out, title_table(), c)) append_upper(out, c);
}

/// Calls visit(out, code_point, idx) for each character.
template <typename Visit>
std::string mapped(std::string_view text, Visit visit) {
  std::string out;
  out.reserve(text.size());
  size_t char_idx = 0;
  for (size_t at = 0; at < text.size(); ++char_idx) {
    const CodePoint c = code_point_at(text, at);
    visit(out, c.value, char_idx);
    at += c.num_bytes;
  }
  return out;
}

/// The bytes of the line end at `at`; 0 where none is.
size_t line_end_bytes(std::string_view text, size_t at) {
  const CodePoint c = code_point_at(text, at);
  if (c.value == '\r' && at + 1 < text.size() && text[at + 1] == '\n') return 2;
  const bool ends = (c.value >= 0x0A && c.value <= 0x0D) || (c.value >= 0x1C && c.value <= 0x1E) ||
                    c.value == 0x85 || c.value == 0x2028 || c.value == 0x2029;
  return ends ? c.num_bytes : 0;
}

/// Does the character at `at` belong to `chars`, or to white space?
bool strips(std::string_view text, size_t at, size_t num_bytes, const std::string_view* chars) {
  if (chars == nullptr) return is_space(code_point_at(text, at).value);
  return chars->find(text.substr(at, num_bytes)) != std::string_view::npos;
}

}  // namespace

size_t num_characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return !is_continuation(byte); }));
}

size_t byte_of(std::string_view text, size_t char_idx) {
  size_t at = 0;
  for (; at < text.size(); ++at) {
    if (is_continuation(text[at])) continue;
    if (char_idx == 0) return at;
    --char_idx;
  }
  return at;
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> out;
  for (size_t at = 0; at < text.size();) {
    const size_t num_bytes = code_point_at(text, at).num_bytes;
    out.push_back(text.substr(at, num_bytes));
    at += num_bytes;
  }
  return out;
}

bool is_space(uint32_t c) {
  if (c < kNumAscii) return c == ' ' || (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_printable(uint32_t code_point) {
  const auto bounds = printable_bounds();
  const auto after = std::upper_bound(bounds.begin(), bounds.end(), code_point);
  return (after - bounds.begin()) % 2 == 1;
}

bool is_upper(uint32_t code_point) {
  std::string out;
  if (code_point < kNumAscii) return code_point >= 'A' && code_point <= 'Z';
  return append_mapped(out, lower_table(), code_point);
}

bool is_lower(uint32_t code_point) {
  std::string out;
  if (code_point < kNumAscii) return code_point >= 'a' && code_point <= 'z';
  return append_mapped(out, upper_table(), code_point);
}

std::string_view strip(std::string_view text, const std::string_view* chars, Side side) {
  if (side != Side::kRight) {
    size_t begin = 0;
    while (begin < text.size()) {
      const size_t num_bytes = code_point_at(text, begin).num_bytes;
      if (!strips(text, begin, num_bytes, chars)) break;
      begin += num_bytes;
    }
    text.remove_prefix(begin);
  }
  if (side != Side::kLeft) {
    while (!text.empty()) {
      const size_t num_bytes = code_point_before(text, text.size()).num_bytes;
      if (!strips(text, text.size() - num_bytes, num_bytes, chars)) break;
      text.remove_suffix(num_bytes);
    }
  }
  return text;
}

std::string upper(std::string_view text) {
  return mapped(text, [](std::string& out, uint32_t c, size_t) { append_upper(out, c); });
}

std::string lower(std::string_view text) {
  // Σ at a word's end becomes ς: preceded by a letter, not followed by one.
  bool behind_letter = false;
  size_t at = 0;
  return mapped(text, [&](std::string& out, uint32_t c, size_t) {
    at += code_point_at(text, at).num_bytes;
    if (c == 0x3A3 && behind_letter) {
      const bool followed = at < text.size() && (is_upper(code_point_at(text, at).value) ||
                                                 is_lower(code_point_at(text, at).value));
      append_utf8(out, followed ? 0x3C3 : 0x3C2);
    } else {
      append_lower(out, c);
    }
    behind_letter = is_upper(c) || is_lower(c);
  });
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return {};
  std::string out;
  const CodePoint first = code_point_at(text, 0);
  append_title(out, first.value);
  return out + lower(text.substr(first.num_bytes));
}

std::string swap_case(std::string_view text) {
  return mapped(text, [](std::string& out, uint32_t c, size_t) {
    is_upper(c) ? append_lower(out, c) : append_upper(out, c);
  });
}

std::string title(std::string_view text) {
  bool behind_letter = false;
  return mapped(text, [&](std::string& out, uint32_t c, size_t) {
    behind_letter ? append_lower(out, c) : append_title(out, c);
    behind_letter = is_upper(c) || is_lower(c);
  });
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end_bytes = line_end_bytes(text, at);
    if (end_bytes == 0) {
      at += code_point_at(text, at).num_bytes;
      continue;
    }
    lines.push_back(text.substr(begin, at - begin + (keep_ends ? end_bytes : 0)));
    at += end_bytes;
    begin = at;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

std::vector<std::string_view> split_words(std::string_view text, int64_t max_splits, Side side) {
  std::vector<std::string_view> words;
  const bool right = side == Side::kRight;
  text = strip(text, nullptr, right ? Side::kRight : Side::kLeft);
  while (!text.empty()) {
    if (max_splits >= 0 && static_cast<int64_t>(words.size()) == max_splits) {
      words.push_back(text);  // the rest, as it is
      break;
    }
    size_t begin = right ? text.size() : 0;
    size_t end = begin;
    if (right) {
      while (begin > 0 && !is_space(code_point_before(text, begin).value)) {
        begin -= code_point_before(text, begin).num_bytes;
      }
    } else {
      while (end < text.size() && !is_space(code_point_at(text, end).value)) {
        end += code_point_at(text, end).num_bytes;
      }
    }
    words.push_back(text.substr(begin, end - begin));
    text = right ? text.substr(0, begin) : text.substr(end);
    text = strip(text, nullptr, right ? Side::kRight : Side::kLeft);
  }
  if (right) std::reverse(words.begin(), words.end());
  return words;
}

std::vector<std::string_view> split_at(std::string_view text, std::string_view separator,
                                       int64_t max_splits, Side side) {
  std::vector<std::string_view> parts;
  const bool right = side == Side::kRight;
  while (max_splits < 0 || static_cast<int64_t>(parts.size()) < max_splits) {
    const size_t at = right ? text.rfind(separator) : find_bytes(text, separator);
    if (at == std::string_view::npos) break;
    const size_t behind = at + separator.size();
    parts.push_back(right ? text.substr(behind) : text.substr(0, at));
    text = right ? text.substr(0, at) : text.substr(behind);
  }
  parts.push_back(text);
  if (right) std::reverse(parts.begin(), parts.end());
  return parts;
}

size_t find_bytes(std::string_view text, std::string_view wanted, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (wanted.empty()) return from;
  const void* found = memmem(text.data() + from, text.size() - from, wanted.data(), wanted.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

void append_utf8(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

}  // namespace comet::text::jinja
