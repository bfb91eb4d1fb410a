// COMET_CHECK: a broken promise of the program itself (a bug) throws CheckError with the values.
// Bad input and failed I/O are not bugs: they return Result (result.h).
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace comet {

class CheckError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

[[noreturn]] void check_failed(const char* condition, const char* file, int line,
                               const std::string& message);

}  // namespace comet

/// Throws CheckError unless `condition` holds; the rest is a fmt literal with its values.
#define COMET_CHECK(condition, ...)                                                         \
  do {                                                                                      \
    if (!(condition)) [[unlikely]] {                                                        \
      ::comet::check_failed(#condition, __FILE__, __LINE__, ::fmt::format("" __VA_ARGS__)); \
    }                                                                                       \
  } while (false)

#ifdef NDEBUG
#define COMET_DCHECK(condition, ...) \
  do {                               \
  } while (false)
#else
#define COMET_DCHECK(condition, ...) COMET_CHECK(condition, __VA_ARGS__)
#endif
