// ResponseReader: bytes of a connection -> one HTTP response, its body piece by piece. No sockets:
// the event loop and tests feed it. Boost.Beast's parser is behind it and seen by no one else.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace comet::client {

class ResponseReader {
 public:
  ResponseReader();
  ~ResponseReader();
  ResponseReader(const ResponseReader&) = delete;
  ResponseReader& operator=(const ResponseReader&) = delete;

  /// The next bytes. False: they are no HTTP response; error() says why.
  bool feed(std::string_view bytes);
  /// The server closed the connection. False: before the response was whole.
  bool feed_end();

  [[nodiscard]] bool has_header() const;
  [[nodiscard]] bool is_done() const;
  [[nodiscard]] int status() const;
  /// In lower case, without parameters: "text/event-stream".
  [[nodiscard]] std::string content_type() const;
  /// What has been read of the body since the last call.
  std::string take_body();
  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  struct Parser;
  bool fail(std::string message);

  std::unique_ptr<Parser> parser_;
  std::string held_;  // read, not yet used: the parser wants whole lines
  std::string error_;
};

}  // namespace comet::client
