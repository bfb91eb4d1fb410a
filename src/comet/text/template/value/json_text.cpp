// json.dumps as transformers' tojson calls it; the reader is json_value.cpp.
#include <algorithm>
#include <cmath>

#include "comet/text/template/value/characters.h"
#include "comet/text/template/value/text.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(Budget& budget, const JsonStyle& style) : budget_(budget), style_(style) {}

  void write(const Value& value) {
    const Budget::Level level(budget_);
    const size_t before = out_.size();
    switch (value.kind()) {
      case Kind::kNone:
      case Kind::kBool:
      case Kind::kInt:
      case Kind::kFloat:
        out_ += scalar(value);
        break;
      case Kind::kString:
        string(value.as_text());
        break;
      case Kind::kList:
      case Kind::kTuple:
        array(value);
        break;
      case Kind::kDict:
        object(value.as_dict());
        break;
      default:
        budget_.fail("tojson: an object of type {} is not JSON", type_name(value));
    }
    budget_.charge_steps(1);
    budget_.charge_bytes(out_.size() - before);
  }

  std::string take() { return std::move(out_); }

 private:
  static std::string scalar(const Value& value) {
    if (value.is(Kind::kNone)) return "null";
    if (value.is(Kind::kBool)) return value.as_bool() ? "true" : "false";
    if (value.is(Kind::kInt)) return std::to_string(value.as_integer());
    const double number = value.as_double();
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
    return double_text(number);
  }

  void line_break(int level) {
    if (!style_.indent) return;
    // Before the bytes pile up: an indent may be long.
    budget_.charge_bytes(style_.indent->size() * static_cast<size_t>(level));
    out_ += '\n';
    for (int i = 0; i < level; ++i) out_ += *style_.indent;
  }

  void array(const Value& value) {
    if (value.items().empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    ++level_;
    bool first = true;
    for (const Value& item : value.items()) {
      if (!first) out_ += style_.item_separator;
      first = false;
      line_break(level_);
      write(item);
    }
    line_break(--level_);
    out_ += ']';
  }

  void object(const DictData& dict) {
    if (dict.entries.empty()) {
      out_ += "{}";
      return;
    }
    out_ += '{';
    ++level_;
    bool first = true;
    for (const auto* entry : in_order(dict)) {
      if (!first) out_ += style_.item_separator;
      first = false;
      line_break(level_);
      key(entry->first);
      out_ += style_.key_separator;
      write(entry->second);
    }
    line_break(--level_);
    out_ += '}';
  }

  std::vector<const std::pair<Value, Value>*> in_order(const DictData& dict) {
    std::vector<const std::pair<Value, Value>*> entries;
    entries.reserve(dict.entries.size());
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (!style_.sort_keys) return entries;
    for (const auto* entry : entries) {
      if (!entry->first.is_string()) budget_.fail("tojson: sort_keys needs keys that are text");
    }
    budget_.charge_steps(entries.size() * 8);
    std::sort(entries.begin(), entries.end(),
              [](const auto* a, const auto* b) { return a->first.as_text() < b->first.as_text(); });
    return entries;
  }

  void key(const Value& value) {
    if (value.is_string()) {
      string(value.as_text());
    } else if (value.is_number() || value.is(Kind::kNone)) {
      string(scalar(value));
    } else {
      budget_.fail("tojson: a key of type {} is not JSON", type_name(value));
    }
  }

  void string(std::string_view text) {
    budget_.charge_steps(text.size() / 16);
    out_ += '"';
    for (size_t at = 0; at < text.size();) {
      const CodePoint c = code_point_at(text, at);
      character(c.value, text.substr(at, c.num_bytes));
      at += c.num_bytes;
    }
    out_ += '"';
  }

  void character(uint32_t c, std::string_view bytes) {
    constexpr std::string_view kNamed = "\"\\\n\r\t\f\b";
    constexpr std::string_view kLetters = "\"\\nrtfb";
    const size_t named = c < 0x80 ? kNamed.find(static_cast<char>(c)) : std::string_view::npos;
    if (named != std::string_view::npos) {
      out_ += '\\';
      out_ += kLetters[named];
    } else if (c >= 0x10000 && style_.ensure_ascii) {
      out_ += fmt::format("\\u{:04x}\\u{:04x}", 0xD7C0 + (c >> 10), 0xDC00 + (c & 0x3FF));
    } else if (c < 0x20 || (c >= 0x7F && style_.ensure_ascii)) {
      out_ += fmt::format("\\u{:04x}", c);
    } else {
      out_ += bytes;
    }
  }

  Budget& budget_;
  const JsonStyle& style_;
  std::string out_;
  int level_ = 0;
};

}  // namespace

std::string json_of(Budget& budget, const Value& value, const JsonStyle& style) {
  JsonWriter writer(budget, style);
  writer.write(value);
  return writer.take();
}

}  // namespace comet::text::jinja
