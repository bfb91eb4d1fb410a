// A match sees only a window of the text behind its start. PCRE2's hard partial matching says when
// more text could change the outcome; then, and when a match takes too many steps, the window
// grows by a factor and its size is paid from a budget. So no expression, however it backtracks,
// takes more than O(budget) steps, and a match costs what it looks at, not what the text is long.
#include "comet/text/split/regex_pattern.h"

#include <pcre2.h>  // PCRE2_CODE_UNIT_WIDTH comes from CMake

#include <algorithm>
#include <optional>

#include "comet/text/split/oniguruma_syntax.h"
#include "comet/text/unicode/printable.h"
#include "comet/text/unicode/unicode_tables.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

constexpr size_t kMaxRegexBytes = 4096;
constexpr uint32_t kMaxNestedGroups = 32;
constexpr uint32_t kHeapLimitKib = 16 * 1024;
constexpr uint32_t kDepthLimit = 100'000;

constexpr size_t kFirstWindowBytes = 128;
constexpr size_t kWindowGrowth = 4;
constexpr uint32_t kBaseSteps = 256;
constexpr size_t kStepsPerByte = 8;
constexpr size_t kBudgetPerByte = 16;
constexpr size_t kBaseBudgetBytes = size_t{1} << 20;

template <auto kFree>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Code = std::unique_ptr<pcre2_code, Freer<pcre2_code_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Freer<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data_free>>;

PCRE2_SPTR code_units(std::string_view text) {
  return reinterpret_cast<PCRE2_SPTR>(text.data());  // NOLINT(*-reinterpret-cast): char to uint8_t
}

/// The known code point of the same kind, of the same UTF-8 length, for one that PCRE2 may lack.
uint32_t stand_in(uint32_t code_point) {
  const auto table = substitutes();
  const auto after = std::upper_bound(table.begin(), table.end(), code_point,
                                      [](uint32_t c, const Substitute& s) { return c < s.first; });
  if (after == table.begin()) return code_point;
  const Substitute& row = *std::prev(after);
  return code_point <= row.last ? row.stand_in : code_point;
}

/// `text` as PCRE2 may know it; nothing when that is the text itself. Offsets stay the same.
std::optional<std::string> with_stand_ins(std::string_view text) {
  const uint32_t first = substitutes().front().first;
  std::optional<std::string> changed;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    const uint32_t known = c.value < first ? c.value : stand_in(c.value);
    if (known != c.value) {
      if (!changed) changed = std::string(text);
      std::string utf8;
      append_utf8(known, utf8);
      changed->replace(at, c.num_bytes, utf8);
    }
    at += c.num_bytes;
  }
  return changed;
}

/// The search through one text.
class Search {
 public:
  Search(const pcre2_code* code, std::string_view text)
      : code_(code),
        text_(text),
        data_(pcre2_match_data_create(1, nullptr)),
        context_(pcre2_match_context_create(nullptr)),
        budget_bytes_(kBaseBudgetBytes + kBudgetPerByte * text.size()) {
    COMET_CHECK(data_ != nullptr && context_ != nullptr, "PCRE2 has no memory");
    pcre2_set_heap_limit(context_.get(), kHeapLimitKib);
    pcre2_set_depth_limit(context_.get(), kDepthLimit);
  }

  /// The first match that starts at or behind `from`.
  std::optional<Span> next(size_t from) {
    for (size_t window = kFirstWindowBytes;; window *= kWindowGrowth) {
      const size_t end = window_end(from, window);
      const bool is_whole = end == text_.size();
      const size_t steps = kBaseSteps + kStepsPerByte * std::min(window, text_.size());
      pcre2_set_match_limit(context_.get(),
                            static_cast<uint32_t>(std::min(steps, size_t{UINT32_MAX})));
      const uint32_t options = PCRE2_NO_UTF_CHECK | (is_whole ? 0U : PCRE2_PARTIAL_HARD);
      const int found =
          pcre2_match(code_, code_units(text_), end, from, options, data_.get(), context_.get());
      if (found >= 0) {
        const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data_.get());
        return Span{offsets[0], offsets[1], true};
      }
      if ((found == PCRE2_ERROR_NOMATCH && is_whole) || window > budget_bytes_) return {};
      budget_bytes_ -= window;
    }
  }

 private:
  [[nodiscard]] size_t window_end(size_t from, size_t window) const {
    if (window >= text_.size() - from) return text_.size();
    size_t end = from + window;
    while ((static_cast<uint8_t>(text_[end]) & 0xC0) == 0x80) --end;
    return end;
  }

  const pcre2_code* code_;
  std::string_view text_;
  MatchData data_;
  MatchContext context_;
  size_t budget_bytes_;
};

class RegexPattern final : public SplitPattern {
 public:
  explicit RegexPattern(Code code) : code_(std::move(code)) {}

  void find_spans(std::string_view text, std::vector<Span>& spans) const override {
    const std::optional<std::string> changed = with_stand_ins(text);
    Search search(code_.get(), changed ? std::string_view(*changed) : text);
    size_t covered = 0;
    std::optional<size_t> last_end;
    for (size_t from = 0; from <= text.size();) {
      const std::optional<Span> match = search.next(from);
      if (!match) break;
      // As the package's engine: no empty match right behind another match.
      if (match->begin == match->end && last_end == match->end) {
        from += from < text.size() ? code_point_at(text, from).num_bytes : 1;
        continue;
      }
      // A lookbehind with \K could answer so; the syntax has no \K, and the loop must advance.
      COMET_CHECK(match->begin >= covered && match->end >= match->begin, "{} {} {}", covered,
                  match->begin, match->end);
      if (match->begin > covered) spans.push_back({covered, match->begin, false});
      spans.push_back(*match);
      covered = from = match->end;
      last_end = match->end;
    }
    if (covered < text.size()) spans.push_back({covered, text.size(), false});
  }

 private:
  Code code_;
};

std::string pcre2_message(int error) {
  PCRE2_UCHAR buffer[160] = {};
  pcre2_get_error_message(error, buffer, sizeof buffer);
  std::string message;
  for (const PCRE2_UCHAR* c = buffer; *c != 0; ++c) message.push_back(static_cast<char>(*c));
  return message;
}

}  // namespace

Result<SplitPatternPtr> compile_regex_pattern(std::string_view regex, std::string_view where) {
  const auto refuse = [&](std::string_view reason) {
    return make_error(ErrorCode::kUnsupported, "{}: the expression '{}' {}", where,
                      printable(regex, 200), reason);
  };
  if (regex.size() > kMaxRegexBytes) {
    return refuse(
        fmt::format("has {} bytes, more than the limit of {}", regex.size(), kMaxRegexBytes));
  }
  const Result<std::string> translated = pcre2_syntax(regex);
  if (!translated.ok()) return refuse(translated.error().message);
  const CompileContext context(pcre2_compile_context_create(nullptr));
  COMET_CHECK(context != nullptr, "PCRE2 has no memory");
  pcre2_set_parens_nest_limit(context.get(), kMaxNestedGroups);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE error_at = 0;
  Code code(pcre2_compile(code_units(*translated), translated->size(),
                          PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                          &error_at, context.get()));
  if (code == nullptr) return refuse("is refused by PCRE2: " + pcre2_message(error));
  return SplitPatternPtr(std::make_shared<RegexPattern>(std::move(code)));
}

}  // namespace comet::text
