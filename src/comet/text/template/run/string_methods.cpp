// The methods of str that templates use.
#include <algorithm>

#include "comet/text/template/run/access.h"
#include "comet/text/template/run/format.h"
#include "comet/text/template/value/characters.h"
#include "comet/text/unicode/unicode_tables.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text::jinja {
namespace {

/// A search from the right looks at every byte of `wanted` everywhere in the worst case.
void charge_backward(Interpreter& run, std::string_view text, std::string_view wanted) {
  run.budget().charge_steps((text.size() / 64 + 1) * (wanted.size() / 64 + 1));
}

template <std::string (*kFunction)(std::string_view)>
Value mapped(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "the method", arguments, {});
  run.budget().charge_steps(self.as_text().size() / 8);
  return run.text(kFunction(self.as_text()));
}

template <Side kSide>
Value stripped(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "strip", arguments, {"chars"});
  const bool has_chars = bound.find(0) != nullptr && !bound.at(0).is(Kind::kNone);
  const std::string_view chars = has_chars ? std::string_view(bound.text(0)) : std::string_view();
  run.budget().charge_steps(self.as_text().size() / 8 * (chars.size() / 16 + 1));
  return run.text(std::string(strip(self.as_text(), has_chars ? &chars : nullptr, kSide)));
}

Value list_of(Interpreter& run, const std::vector<std::string_view>& parts) {
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) items.push_back(run.text(std::string(part)));
  return run.list(std::move(items));
}

template <Side kSide>
Value split(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "split", arguments, {"sep", "maxsplit"});
  const int64_t max_splits = bound.integer(1, -1);
  run.budget().charge_steps(self.as_text().size() / 8);
  if (bound.find(0) == nullptr || bound.at(0).is(Kind::kNone)) {
    return list_of(run, split_words(self.as_text(), max_splits, kSide));
  }
  if (bound.text(0).empty()) run.fail("split(): the separator is empty");
  if (kSide == Side::kRight) charge_backward(run, self.as_text(), bound.text(0));
  run.budget().charge_bytes(self.as_text().size() / bound.text(0).size() *
                            sizeof(std::string_view));
  return list_of(run, split_at(self.as_text(), bound.text(0), max_splits, kSide));
}

Value split_lines_method(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "splitlines", arguments, {"keepends"});
  run.budget().charge_steps(self.as_text().size() / 8);
  return list_of(run, split_lines(self.as_text(), bound.truth(0, false)));
}

/// The part of the text that optional start and end arguments, from `idx` on, leave.
std::string_view within(Interpreter& run, const Value& self, const Bound& bound, size_t idx,
                        int64_t& start) {
  const std::string& text = self.as_text();
  run.budget().charge_scan(text.size());
  const auto length = static_cast<int64_t>(num_characters(text));
  const auto clipped = [&](size_t at, int64_t fallback) {
    const bool is_given = bound.find(at) != nullptr && !bound.at(at).is(Kind::kNone);
    const int64_t value = is_given ? bound.integer(at, fallback) : fallback;
    return value < 0 ? std::max<int64_t>(value + length, 0) : std::min(value, length + 1);
  };
  start = clipped(idx, 0);
  const int64_t end = std::min(clipped(idx + 1, length), length);
  if (start > end) {
    start = -1;
    return {};
  }
  const size_t begin = byte_of(text, static_cast<size_t>(start));
  const std::string_view rest = std::string_view(text).substr(begin);
  return rest.substr(0, byte_of(rest, static_cast<size_t>(end - start)));
}

template <bool kAtEnd>
Value starts_or_ends(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, kAtEnd ? "endswith" : "startswith", arguments, {"text", "start", "end"},
                    1);
  int64_t start = 0;
  const std::string_view part = within(run, self, bound, 1, start);
  const auto matches = [&](const Value& affix) {
    if (!affix.is_string()) {
      run.fail("{} takes a text or a tuple of texts, not a {}", kAtEnd ? "endswith" : "startswith",
               type_name(affix));
    }
    if (start < 0) return false;
    return kAtEnd ? part.ends_with(affix.as_text()) : part.starts_with(affix.as_text());
  };
  run.require_defined(bound.at(0));
  if (!bound.at(0).is(Kind::kTuple)) return Value::boolean(matches(bound.at(0)));
  const auto& affixes = bound.at(0).items();
  run.budget().charge_steps(affixes.size());
  return Value::boolean(std::any_of(affixes.begin(), affixes.end(), matches));
}

template <bool kFromRight, bool kMustBeThere>
Value find_text(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "find", arguments, {"sub", "start", "end"}, 1);
  int64_t start = 0;
  const std::string_view part = within(run, self, bound, 1, start);
  const std::string& wanted = bound.text(0);
  size_t at = std::string_view::npos;
  if (kFromRight) charge_backward(run, part, wanted);
  if (start >= 0) at = kFromRight ? part.rfind(wanted) : find_bytes(part, wanted);
  if (at != std::string_view::npos) {
    return Value::integer(start + static_cast<int64_t>(num_characters(part.substr(0, at))));
  }
  if (kMustBeThere) run.fail("index(): the text is not there");
  return Value::integer(-1);
}

Value count_text(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "count", arguments, {"sub", "start", "end"}, 1);
  int64_t start = 0;
  const std::string_view part = within(run, self, bound, 1, start);
  const std::string& wanted = bound.text(0);
  if (start < 0) return Value::integer(0);
  if (wanted.empty()) return Value::integer(static_cast<int64_t>(num_characters(part)) + 1);
  int64_t count = 0;
  for (size_t at = find_bytes(part, wanted); at != std::string_view::npos;
       at = find_bytes(part, wanted, at + wanted.size())) {
    run.budget().charge_steps(1);
    ++count;
  }
  return Value::integer(count);
}

Value replace(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "replace", arguments, {"old", "new", "count"}, 2);
  return run.text(
      replaced(run, self.as_text(), bound.text(0), bound.text(1), bound.integer(2, -1)));
}

Value join(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "join", arguments, {"iterable"}, 1);
  std::string out;
  bool first = true;
  for (const Value& item : run.items_of(bound.at(0))) {
    if (!item.is_string()) run.fail("join() takes texts, not a {}", type_name(item));
    run.budget().charge_bytes(item.as_text().size() + self.as_text().size());
    if (!first) out += self.as_text();
    first = false;
    out += item.as_text();
  }
  return run.text(std::move(out));
}

template <bool kSuffix>
Value without_affix(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, kSuffix ? "removesuffix" : "removeprefix", arguments, {"affix"}, 1);
  std::string_view text = self.as_text();
  const std::string& affix = bound.text(0);
  if (kSuffix && text.ends_with(affix)) text.remove_suffix(affix.size());
  if (!kSuffix && text.starts_with(affix)) text.remove_prefix(affix.size());
  return run.text(std::string(text));
}

template <bool kFromRight>
Value partition(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "partition", arguments, {"sep"}, 1);
  const std::string& text = self.as_text();
  const std::string& separator = bound.text(0);
  if (separator.empty()) run.fail("partition(): the separator is empty");
  run.budget().charge_scan(text.size());
  if (kFromRight) charge_backward(run, text, separator);
  const size_t at = kFromRight ? text.rfind(separator) : find_bytes(text, separator);
  if (at == std::string::npos) {
    return kFromRight ? run.tuple({Value::text({}), Value::text({}), self})
                      : run.tuple({self, Value::text({}), Value::text({})});
  }
  return run.tuple(
      {run.text(text.substr(0, at)), bound.at(0), run.text(text.substr(at + separator.size()))});
}

template <char kAlign>
Value padded_method(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "the method", arguments, {"width", "fillchar"}, 1);
  const std::string fill = bound.find(1) == nullptr ? " " : bound.text(1);
  if (num_characters(fill) != 1) run.fail("the text to fill with is one character");
  return run.text(padded(run, self.as_text(), bound.integer(0, 0), kAlign, fill));
}

Value zero_filled(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "zfill", arguments, {"width"}, 1);
  const std::string& text = self.as_text();
  const bool has_sign = text.starts_with('-') || text.starts_with('+');
  const std::string sign = has_sign ? text.substr(0, 1) : "";
  return run.text(sign + padded(run, text.substr(sign.size()),
                                bound.integer(0, 0) - static_cast<int64_t>(sign.size()), '>', "0"));
}

/// All characters satisfy `holds`, and there is one.
template <bool (*kHolds)(uint32_t)>
Value all_characters(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "the method", arguments, {});
  const std::string& text = self.as_text();
  run.budget().charge_steps(text.size() / 8);
  bool all = !text.empty();
  for (size_t at = 0; all && at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    all = kHolds(c.value);
    at += c.num_bytes;
  }
  return Value::boolean(all);
}

bool is_letter(uint32_t c) { return (class_of(c) & kLetter) != 0; }
bool is_number(uint32_t c) { return (class_of(c) & kNumber) != 0; }
bool is_letter_or_number(uint32_t c) { return (class_of(c) & (kLetter | kNumber)) != 0; }

/// Some letter has a case, and every such letter has this one.
template <bool (*kWanted)(uint32_t), bool (*kOther)(uint32_t)>
Value has_case(Interpreter& run, const Value& self, const CallArguments& arguments) {
  const Bound bound(run, "the method", arguments, {});
  const std::string& text = self.as_text();
  run.budget().charge_steps(text.size() / 8);
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (kOther(c.value)) return Value::boolean(false);
    any = any || kWanted(c.value);
    at += c.num_bytes;
  }
  return Value::boolean(any);
}

constexpr Method kMethods[] = {
    {"capitalize", mapped<capitalize>},
    {"center", padded_method<'^'>},
    {"count", count_text},
    {"endswith", starts_or_ends<true>},
    {"find", find_text<false, false>},
    {"format", format_method},
    {"index", find_text<false, true>},
    {"isalnum", all_characters<is_letter_or_number>},
    {"isalpha", all_characters<is_letter>},
    {"isdecimal", all_characters<is_number>},
    {"isdigit", all_characters<is_number>},
    {"islower", has_case<is_lower, is_upper>},
    {"isnumeric", all_characters<is_number>},
    {"isspace", all_characters<is_space>},
    {"isupper", has_case<is_upper, is_lower>},
    {"join", join},
    {"ljust", padded_method<'<'>},
    {"lower", mapped<lower>},
    {"lstrip", stripped<Side::kLeft>},
    {"partition", partition<false>},
    {"removeprefix", without_affix<false>},
    {"removesuffix", without_affix<true>},
    {"replace", replace},
    {"rfind", find_text<true, false>},
    {"rindex", find_text<true, true>},
    {"rjust", padded_method<'>'>},
    {"rpartition", partition<true>},
    {"rsplit", split<Side::kRight>},
    {"rstrip", stripped<Side::kRight>},
    {"split", split<Side::kLeft>},
    {"splitlines", split_lines_method},
    {"startswith", starts_or_ends<false>},
    {"strip", stripped<Side::kBoth>},
    {"swapcase", mapped<swap_case>},
    {"title", mapped<title>},
    {"upper", mapped<upper>},
    {"zfill", zero_filled},
};

}  // namespace

const Method* find_string_method(std::string_view name) {
  const auto* const found = std::lower_bound(
      std::begin(kMethods), std::end(kMethods), name,
      [](const Method& each, std::string_view wanted) { return each.name < wanted; });
  return found == std::end(kMethods) || found->name != name ? nullptr : found;
}

std::string replaced(Interpreter& run, std::string_view text, std::string_view old_part,
                     std::string_view replacement, int64_t max_count) {
  run.budget().charge_scan(text.size());
  std::string out;
  size_t begin = 0;
  for (int64_t count = 0; max_count < 0 || count < max_count; ++count) {
    size_t at = find_bytes(text, old_part, begin);
    if (old_part.empty()) {  // before each character and at the end
      if (begin > text.size()) break;
      at = begin;
    }
    if (at == std::string_view::npos) break;
    run.budget().charge_bytes(replacement.size() + 1);
    run.budget().charge_steps(1);
    out += text.substr(begin, at - begin);
    out += replacement;
    begin = at + old_part.size();
    if (!old_part.empty()) continue;
    if (at == text.size()) return out;
    const size_t num_bytes = code_point_at(text, at).num_bytes;
    out += text.substr(at, num_bytes);
    begin = at + num_bytes;
  }
  if (begin < text.size()) out += text.substr(begin);
  return out;
}

}  // namespace comet::text::jinja
