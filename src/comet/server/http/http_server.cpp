#include "comet/server/http/http_server.h"

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <unordered_map>

#include "comet/base/log.h"
#include "comet/server/http/connection.h"

namespace comet::server::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr int kBacklog = 4096;  // the system may hold it lower (net.core.somaxconn)
constexpr auto kTick = std::chrono::milliseconds(100);
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

}  // namespace

struct HttpServer::State {
  State(const HttpOptions& http_options, Handler request_handler)
      : options(http_options), handler(std::move(request_handler)) {}

  Status open();
  void accept();
  void on_accept(const boost::system::error_code& error, tcp::socket socket);
  void schedule_tick();
  void tick();

  HttpOptions options;
  Handler handler;
  bool draining = false;  // I/O thread
  std::atomic<int64_t> buffered_bytes{0};
  uint16_t port = 0;
  // Connections and exchanges refer to what stands above; the last of them go with `io`.
  ConnectionHost host{options, handler, draining, buffered_bytes, {}};
  asio::io_context io{1};
  tcp::acceptor acceptor{io};
  asio::steady_timer tick_timer{io};
  asio::steady_timer accept_timer{io};
  std::chrono::steady_clock::time_point stop_at = std::chrono::steady_clock::time_point::max();
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections;
  std::atomic<int64_t> num_connections{0};
};

Status HttpServer::State::open() {
  boost::system::error_code error;
  const auto address = asio::ip::make_address(options.host, error);
  if (error) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--host '{}': expected an IP address such as 127.0.0.1, 0.0.0.0 or ::1",
                      options.host);
  }
  const tcp::endpoint endpoint(address, options.port);
  const auto failed = [&](const char* what) {
    return make_error(ErrorCode::kIo, "cannot {} {} port {}: {}; choose another --port, or 0", what,
                      options.host, options.port, error.message());
  };
  if (acceptor.open(endpoint.protocol(), error); error) return failed("open a socket for");
  acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (acceptor.bind(endpoint, error); error) return failed("bind to");
  if (acceptor.listen(kBacklog, error); error) return failed("listen on");
  port = acceptor.local_endpoint().port();
  host.closed = [this](Connection* connection) {
    // Posted: the caller is a member function of the connection.
    asio::post(io, [this, connection] {
      connections.erase(connection);
      num_connections = static_cast<int64_t>(connections.size());
    });
  };
  accept();
  schedule_tick();
  return {};
}

void HttpServer::State::accept() {
  acceptor.async_accept([this](const boost::system::error_code& error, tcp::socket socket) {
    on_accept(error, std::move(socket));
  });
}

void HttpServer::State::on_accept(const boost::system::error_code& error, tcp::socket socket) {
  if (!acceptor.is_open()) return;
  if (error) {  // mostly: no file descriptors left
    log_warning("accepting a connection failed: {}", error.message());
    accept_timer.expires_after(kAcceptPause);
    accept_timer.async_wait([this](const boost::system::error_code& stopped) {
      if (!stopped && acceptor.is_open()) accept();
    });
    return;
  }
  auto connection = std::make_shared<Connection>(std::move(socket), host);
  connections[connection.get()] = connection;
  const auto count = static_cast<int64_t>(connections.size());
  num_connections = count;
  if (count > options.max_connections) {
    connection->refuse();
  } else {
    connection->start();
  }
  accept();
}

void HttpServer::State::schedule_tick() {
  tick_timer.expires_after(kTick);
  tick_timer.async_wait([this](const boost::system::error_code& stopped) {
    if (!stopped) tick();
  });
}

void HttpServer::State::tick() {
  const auto now = std::chrono::steady_clock::now();
  // Closing posts the removal, so the map does not change under the loop.
  for (const auto& [key, connection] : connections) {
    connection->tick(now);
    if (draining) connection->close_if_idle();
  }
  const bool stopping = stop_at != std::chrono::steady_clock::time_point::max();
  if (stopping && (connections.empty() || now >= stop_at)) return io.stop();
  schedule_tick();
}

Result<std::unique_ptr<HttpServer>> HttpServer::listen(const HttpOptions& options,
                                                       Handler handler) {
  auto state = std::make_unique<State>(options, std::move(handler));
  if (const Status opened = state->open(); !opened) return opened.error();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
HttpServer::~HttpServer() = default;

uint16_t HttpServer::port() const { return state_->port; }

void HttpServer::run() {
  for (;;) {
    try {
      state_->io.run();
      return;
    } catch (const std::exception& error) {  // one connection's; the others go on
      log_warning("internal error on the I/O thread: {}", error.what());
    }
  }
}

void HttpServer::stop_accepting() {
  asio::post(state_->io, [state = state_.get()] {
    boost::system::error_code ignored;
    state->acceptor.close(ignored);
    state->draining = true;
  });
}

void HttpServer::stop(double grace_s) {
  asio::post(state_->io, [state = state_.get(), grace_s] {
    state->draining = true;
    state->stop_at = std::chrono::steady_clock::now() +
                     std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                         std::chrono::duration<double>(grace_s));
  });
}

int64_t HttpServer::num_connections() const { return state_->num_connections; }

}  // namespace comet::server::http
