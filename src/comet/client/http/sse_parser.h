// SseParser: bytes of a text/event-stream body -> the data of its events, wherever the bytes were
// cut (WHATWG HTML §9.2.6). Caller: the event loop.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace comet::client {

class SseParser {
 public:
  static constexpr size_t kMaxEventBytes = size_t{4} << 20;

  /// Calls on_data for each event that `bytes` completes; comments and other fields are skipped.
  /// False once an event outgrows kMaxEventBytes, or when on_data says so: nothing more is read.
  bool feed(std::string_view bytes, const std::function<bool(std::string_view)>& on_data);

 private:
  bool end_line(const std::function<bool(std::string_view)>& on_data);

  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_cr_ = false;
  bool failed_ = false;
};

}  // namespace comet::client
