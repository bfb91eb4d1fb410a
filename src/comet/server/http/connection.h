// Connection: one client's socket. Reads requests, hands each to the handler as an Exchange, writes
// the answer, watches for the client's going meanwhile. All of it runs on the server's I/O thread.
// Includes Boost.Asio: only server.cpp and connection.cpp see it.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "comet/server/http/exchange.h"
#include "comet/server/http/options.h"
#include "comet/server/http/request_reader.h"

namespace comet::server::http {

class ConnectionExchange;

/// What a connection needs of its server.
struct ConnectionHost {
  const HttpOptions& options;
  const Handler& handler;
  const bool& draining;                  // no further request after the present one
  std::atomic<int64_t>& buffered_bytes;  // of all bodies
  std::function<void(class Connection*)> closed;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  using Clock = std::chrono::steady_clock;

  Connection(Socket socket, const ConnectionHost& host);
  ~Connection() { count_body(0); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start();
  /// Answers 503 and closes: there are too many connections.
  void refuse();
  /// Checks the deadlines; called a few times a second.
  void tick(Clock::time_point now);
  /// Closes at once when no request is in hand.
  void close_if_idle();
  void close();

 private:
  friend class ConnectionExchange;
  // Of the exchange in hand; later ones' calls do not arrive here.
  void respond(const HttpRequest& request, const HttpResponse& response);
  void start_stream(const HttpRequest& request, const std::vector<Header>& headers);
  void write_stream(const std::string& events);
  void finish_stream();
  void set_on_gone(std::function<void()> callback);

  void read();
  void on_read(const boost::system::error_code& error, size_t num_bytes);
  void on_end_of_input();
  void feed();
  void begin_exchange();
  void answer_error(int status, const std::string& message);
  void send(std::string_view bytes);
  void flush();
  void on_written(const boost::system::error_code& error, size_t num_bytes);
  void end_exchange();
  void linger();
  void gone();
  void set_deadline(double seconds);
  void count_body(size_t num_bytes);

  Socket socket_;
  const ConnectionHost& host_;
  RequestReader reader_;
  std::string peer_;
  std::array<char, 16384> chunk_{};
  std::string input_;          // read, not yet used
  int64_t counted_bytes_ = 0;  // of the body that is being read, in host_.buffered_bytes
  bool reading_ = false;
  bool input_ended_ = false;
  bool lingering_ = false;  // answered, unsendable: only waits for the client to close
  bool closed_ = false;

  std::shared_ptr<ConnectionExchange> exchange_;  // the request in hand
  std::function<void()> on_gone_;
  bool keep_alive_ = true;
  bool streaming_ = false;
  bool chunked_ = false;

  std::string output_;     // waits
  std::string in_flight_;  // is being written
  size_t written_ = 0;     // of in_flight_
  bool writing_ = false;
  bool close_when_written_ = false;

  RequestReader::State waiting_for_ = RequestReader::State::kHeader;
  bool request_begun_ = false;
  Clock::time_point read_deadline_ = Clock::time_point::max();
  Clock::time_point write_deadline_ = Clock::time_point::max();
  Clock::time_point last_write_;
};

}  // namespace comet::server::http
