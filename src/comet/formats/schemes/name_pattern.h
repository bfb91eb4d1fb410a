// NamePattern: one entry of `targets` or `ignore` in a quantization_config: a class of modules
// ("Linear"), a module's exact name, or "re:" and an expression that matches from the name's start.
// Called by the readers of this folder. An expression's steps are bounded.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "comet/base/result.h"

namespace comet::formats {

class NamePattern {
 public:
  /// Exact name before expression before class: the first kind that matches decides.
  enum class Kind { kName, kExpression, kClass };

  /// An error says what is wrong with the expression.
  static Result<NamePattern> parse(std::string_view text);

  [[nodiscard]] Kind kind() const { return kind_; }
  [[nodiscard]] const std::string& text() const { return text_; }
  /// Of a linear module.
  [[nodiscard]] bool matches(std::string_view module_name) const;

 private:
  Kind kind_ = Kind::kName;
  std::string text_;
  std::shared_ptr<const void> expression_;  // a compiled pcre2_code
};

}  // namespace comet::formats
