// RequestReader: bytes of a connection -> requests, with every limit on the way. No sockets: the
// connection and the fuzzer feed it. Boost.Beast's parser is behind it and seen by no one else.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "comet/server/http/message.h"
#include "comet/server/http/options.h"

namespace comet::server::http {

class RequestReader {
 public:
  enum class State {
    kHeader,  // wants more of the header
    kBody,    // the header is whole; wants more of the body
    kDone,    // take_request() may be called
    kFailed,  // answer error_status() and close: the connection's bytes mean nothing any more
  };

  explicit RequestReader(const HttpOptions& options);  // which outlives this
  ~RequestReader();
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;

  /// Reads from the start of `bytes`; returns how many were used. What was not used comes again,
  /// with more behind it; behind a done request it is the next one's.
  size_t feed(std::string_view bytes);
  [[nodiscard]] State state() const { return state_; }
  /// Of the body so far.
  [[nodiscard]] size_t body_bytes() const;
  /// The client waits for "100 Continue" before it sends the body; true once.
  bool take_expects_continue();

  [[nodiscard]] int error_status() const { return error_status_; }
  [[nodiscard]] const std::string& error_message() const { return error_message_; }

  /// The request that was read; the reader then starts on the next one.
  HttpRequest take_request();

 private:
  struct Parser;
  void restart();
  void fail(int status, std::string message);
  void check_header();

  const HttpOptions& options_;
  std::unique_ptr<Parser> parser_;
  State state_ = State::kHeader;
  std::vector<Header> headers_;
  bool expects_continue_ = false;
  int error_status_ = 0;
  std::string error_message_;
};

}  // namespace comet::server::http
