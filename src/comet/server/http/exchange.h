// Exchange: one request and the way back to its client. The connection makes it; whoever answers
// holds it, on any thread, as long as it likes. Exactly one of respond() or
// start_stream()…finish_stream() is called; calls after the client has gone do nothing.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comet/server/http/message.h"

namespace comet::server::http {

class Exchange {
 public:
  virtual ~Exchange() = default;

  [[nodiscard]] virtual const HttpRequest& request() const = 0;
  /// The body has been read and is let go: it may be large, and answers may take long. Once, by the
  /// one who answers.
  virtual void release_body() = 0;

  virtual void respond(HttpResponse response) = 0;
  /// A stream of server-sent events with status 200.
  virtual void start_stream(std::vector<Header> headers) = 0;
  virtual void write(std::string events) = 0;
  virtual void finish_stream() = 0;
  /// Closes the connection without an end: a stream that cannot be told an error otherwise.
  virtual void abort() = 0;

  /// Called once on the I/O thread when the client has closed its side, is too slow, or the
  /// connection broke; at once when that has happened. The connection is closed with it. Without
  /// a callback, a client that only closed its sending side still gets its response.
  virtual void on_gone(std::function<void()> callback) = 0;
  /// Runs `task` on the I/O thread, in order of the calls.
  virtual void post(std::function<void()> task) = 0;
};

using Handler = std::function<void(std::shared_ptr<Exchange>)>;

}  // namespace comet::server::http
