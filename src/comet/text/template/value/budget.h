// What a render may still use, and how it ends when that is too little: every loop, copy and nested
// call is paid for here, so that no template can run long, grow large or recurse deeply. Errors are
// thrown as TemplateError and caught at the room's door (chat_template.cpp).
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "comet/text/template_limits.h"

namespace comet::text::jinja {

/// One sentence that starts with the line: "line 3: 'x' is undefined".
struct TemplateError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] void fail_at(int line, const std::string& message);

class Budget {
 public:
  explicit Budget(const TemplateLimits& limits)
      : limits_(limits),
        steps_left_(limits.max_steps),
        bytes_left_(static_cast<int64_t>(limits.max_memory_bytes)) {}

  void charge_steps(size_t steps) {
    steps_left_ -= static_cast<int64_t>(steps);
    if (steps_left_ < 0) fail_steps();
  }
  /// For bytes that are allocated, even if they are freed later.
  void charge_bytes(size_t bytes) {
    bytes_left_ -= static_cast<int64_t>(bytes);
    if (bytes_left_ < 0) fail_memory();
  }
  /// For bytes that are read: searches and comparisons.
  void charge_scan(size_t bytes) { charge_steps(bytes / kBytesPerStep); }

  void set_line(int line) { line_ = line; }
  [[nodiscard]] int line() const { return line_; }
  [[nodiscard]] const TemplateLimits& limits() const { return limits_; }

  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    fail_at(line_, fmt::format(format, std::forward<Args>(args)...));
  }

  /// One nested call or level of an expression, while it lives.
  class Level {
   public:
    explicit Level(Budget& budget) : budget_(budget) {
      if (++budget_.depth_ > budget_.limits_.max_depth) budget_.fail_depth();
    }
    ~Level() { --budget_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Budget& budget_;
  };

 private:
  static constexpr size_t kBytesPerStep = 64;

  [[noreturn]] void fail_steps() const;
  [[noreturn]] void fail_memory() const;
  [[noreturn]] void fail_depth();

  TemplateLimits limits_;
  int64_t steps_left_;
  int64_t bytes_left_;
  int depth_ = 0;
  int line_ = 1;
};

}  // namespace comet::text::jinja
