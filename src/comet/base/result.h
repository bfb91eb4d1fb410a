// Result<T>: a value or an Error, for everything that depends on input, files or the machine.
// Error messages are whole sentences for the user: they name the file, field or flag, what was
// expected, and what to do.
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "comet/base/check.h"

namespace comet {

enum class ErrorCode {
  kInvalidArgument,    // a flag, field or value the caller gave is wrong
  kNotFound,           // a file, tensor or name does not exist
  kCorrupt,            // a file's content contradicts itself or its format
  kUnsupported,        // well-formed, but Comet has no implementation
  kIo,                 // the operating system refused
  kResourceExhausted,  // memory, disk or pages do not suffice
};

struct Error {
  ErrorCode code = ErrorCode::kInvalidArgument;
  std::string message;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool ok() const { return std::holds_alternative<T>(state_); }
  explicit operator bool() const { return ok(); }

  /// The value; a CheckError with the error's message when there is none.
  T& value() & {
    require();
    return std::get<T>(state_);
  }
  const T& value() const& {
    require();
    return std::get<T>(state_);
  }
  T value() && {  // by value: a loop over f().value() must not dangle
    require();
    return std::get<T>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  [[nodiscard]] const Error& error() const { return std::get<Error>(state_); }

 private:
  void require() const { COMET_CHECK(ok(), "{}", std::get<Error>(state_).message); }

  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  // NOLINTNEXTLINE(google-explicit-constructor)
  Result(Error error) : error_(std::move(error)), ok_(false) {}

  [[nodiscard]] bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  void value() const { COMET_CHECK(ok_, "{}", error_.message); }
  [[nodiscard]] const Error& error() const { return error_; }

 private:
  Error error_;
  bool ok_ = true;
};

using Status = Result<void>;

template <typename... Args>
Error make_error(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return Error{code, fmt::format(format, std::forward<Args>(args)...)};
}

}  // namespace comet
