#include "comet/formats/schemes/name_pattern.h"

#include <pcre2.h>  // PCRE2_CODE_UNIT_WIDTH comes from CMake

#include <array>

namespace comet::formats {
namespace {

constexpr size_t kMaxPatternBytes = 4096;
constexpr uint32_t kMatchLimit = 100'000;  // steps of one match
constexpr uint32_t kHeapLimitKib = 1024;
constexpr std::string_view kExpressionPrefix = "re:";

PCRE2_SPTR code_units(std::string_view text) {
  return reinterpret_cast<PCRE2_SPTR>(text.data());  // NOLINT(*-reinterpret-cast): char to uint8_t
}

Result<std::shared_ptr<const void>> compile(std::string_view expression) {
  int code = 0;
  size_t offset = 0;
  pcre2_code* compiled = pcre2_compile(code_units(expression), expression.size(),
                                       PCRE2_UTF | PCRE2_ANCHORED, &code, &offset, nullptr);
  if (compiled == nullptr) {
    std::array<PCRE2_UCHAR, 128> text{};
    pcre2_get_error_message(code, text.data(), text.size());
    return make_error(ErrorCode::kInvalidArgument, "{} at byte {}",
                      reinterpret_cast<const char*>(text.data()), offset);
  }
  return std::shared_ptr<const void>(compiled, [](const void* p) {
    pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(p)));
  });
}

bool expression_matches(const pcre2_code* code, std::string_view name) {
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(
      pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  const std::unique_ptr<pcre2_match_context, void (*)(pcre2_match_context*)> context(
      pcre2_match_context_create(nullptr), pcre2_match_context_free);
  if (data == nullptr || context == nullptr) return false;
  pcre2_set_match_limit(context.get(), kMatchLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimitKib);
  return pcre2_match(code, code_units(name), name.size(), 0, 0, data.get(), context.get()) >= 0;
}

}  // namespace

Result<NamePattern> NamePattern::parse(std::string_view text) {
  if (text.empty() || text.size() > kMaxPatternBytes) {
    return make_error(ErrorCode::kInvalidArgument, "it has {} bytes; expected 1 to {}", text.size(),
                      kMaxPatternBytes);
  }
  NamePattern pattern;
  pattern.text_ = text;
  if (text.starts_with(kExpressionPrefix)) {
    auto compiled = compile(text.substr(kExpressionPrefix.size()));
    if (!compiled) return compiled.error();
    pattern.kind_ = Kind::kExpression;
    pattern.expression_ = *std::move(compiled);
  } else if (text == "Linear") {
    pattern.kind_ = Kind::kClass;
  }
  return pattern;
}

bool NamePattern::matches(std::string_view module_name) const {
  switch (kind_) {
    case Kind::kClass:
      return true;
    case Kind::kExpression:
      return expression_matches(static_cast<const pcre2_code*>(expression_.get()), module_name);
    default:
      return module_name == text_;
  }
}

}  // namespace comet::formats
