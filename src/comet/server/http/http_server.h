// HttpServer: listens, and drives all connections on the one thread that calls run(). The handler
// is called on that thread and must not block it. Caller: the serve command.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "comet/base/result.h"
#include "comet/server/http/exchange.h"
#include "comet/server/http/options.h"

namespace comet::server::http {

class HttpServer {
 public:
  /// Listens at once: connections wait until run(). The error says what is wrong with the address.
  static Result<std::unique_ptr<HttpServer>> listen(const HttpOptions& options, Handler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  [[nodiscard]] uint16_t port() const;
  /// Until stop().
  void run();
  /// Any thread: no further connections and requests; what is in hand goes on.
  void stop_accepting();
  /// Any thread: once the last bytes of finished answers are out, or after `grace_s`.
  void stop(double grace_s);
  /// Any thread.
  [[nodiscard]] int64_t num_connections() const;

 private:
  struct State;
  explicit HttpServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace comet::server::http
