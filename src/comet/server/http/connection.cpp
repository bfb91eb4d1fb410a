#include "comet/server/http/connection.h"

#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>

#include "comet/server/protocol/api_error.h"

namespace comet::server::http {
namespace {

namespace asio = boost::asio;
using State = RequestReader::State;

/// Pipelined behind the request in hand; more would hide the client's going from us.
constexpr size_t kMaxAheadBytes = size_t{64} << 10;
constexpr double kLingerSeconds = 2;
constexpr const char* kPing = ": ping\n\n";  // a comment to readers of events

}  // namespace

/// Hands every call to the connection's thread; once the request is over they lead nowhere.
class ConnectionExchange final : public Exchange,
                                 public std::enable_shared_from_this<ConnectionExchange> {
 public:
  ConnectionExchange(std::shared_ptr<Connection> connection, HttpRequest request)
      : executor_(connection->socket_.get_executor()),
        buffered_bytes_(connection->host_.buffered_bytes),
        connection_(std::move(connection)),
        request_(std::move(request)) {
    buffered_bytes_ += static_cast<int64_t>(request_.body.size());
  }
  ~ConnectionExchange() override { release_body(); }
  ConnectionExchange(const ConnectionExchange&) = delete;
  ConnectionExchange& operator=(const ConnectionExchange&) = delete;

  [[nodiscard]] const HttpRequest& request() const override { return request_; }
  void release_body() override {
    buffered_bytes_ -= static_cast<int64_t>(request_.body.size());
    std::string().swap(request_.body);
  }
  void respond(HttpResponse response) override {
    run([this, response = std::move(response)](Connection& c) { c.respond(request_, response); });
  }
  void start_stream(std::vector<Header> headers) override {
    run([this, headers = std::move(headers)](Connection& c) { c.start_stream(request_, headers); });
  }
  void write(std::string events) override {
    run([events = std::move(events)](Connection& c) { c.write_stream(events); });
  }
  void finish_stream() override {
    run([](Connection& c) { c.finish_stream(); });
  }
  void abort() override {
    run([](Connection& c) { c.close(); });
  }
  void on_gone(std::function<void()> callback) override {
    asio::dispatch(executor_,
                   [self = shared_from_this(), callback = std::move(callback)]() mutable {
                     if (self->connection_ != nullptr) {
                       self->connection_->set_on_gone(std::move(callback));
                     } else {
                       callback();
                     }
                   });
  }
  void post(std::function<void()> task) override { asio::post(executor_, std::move(task)); }

  /// On the I/O thread: the request is over.
  void detach() { connection_.reset(); }

 private:
  template <typename Call>
  void run(Call call) {
    asio::dispatch(executor_, [self = shared_from_this(), call = std::move(call)]() mutable {
      // A copy: the call may end the exchange.
      if (const auto connection = self->connection_) call(*connection);
    });
  }

  asio::any_io_executor executor_;
  std::atomic<int64_t>& buffered_bytes_;
  std::shared_ptr<Connection> connection_;  // touched on the I/O thread only
  HttpRequest request_;                     // the I/O thread reads all but the body
};

Connection::Connection(Socket socket, const ConnectionHost& host)
    : socket_(std::move(socket)), host_(host), reader_(host.options) {}

void Connection::start() {
  boost::system::error_code ignored;
  const auto endpoint = socket_.remote_endpoint(ignored);
  peer_ = ignored ? "?" : endpoint.address().to_string();
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  socket_.set_option(asio::socket_base::keep_alive(true), ignored);
  set_deadline(host_.options.read_time_s);
  read();
}

void Connection::refuse() {
  const std::string body = error_json(unavailable("too many connections; try again later"));
  send(response_bytes({503, "application/json", body, {{"Retry-After", "1"}}}, false, true));
  linger();
}

void Connection::set_deadline(double seconds) {
  read_deadline_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(seconds));
}

void Connection::tick(Clock::time_point now) {
  if (now >= write_deadline_) return gone();
  if (streaming_ && !writing_ &&
      now - last_write_ >= std::chrono::duration<double>(host_.options.ping_time_s)) {
    write_stream(kPing);
  }
  if (exchange_ != nullptr || writing_ || now < read_deadline_) return;
  if (lingering_ || !request_begun_) return close();
  answer_error(408, "the request took too long to arrive");
}

void Connection::close_if_idle() {
  if (exchange_ == nullptr && !writing_ && !request_begun_ && !lingering_) close();
}

void Connection::close() {
  if (closed_) return;
  closed_ = true;
  boost::system::error_code ignored;
  socket_.close(ignored);
  if (exchange_ != nullptr) exchange_->detach();
  exchange_.reset();
  // Behind everything that is under way: the callback may call back into the exchange.
  if (on_gone_) asio::post(socket_.get_executor(), std::exchange(on_gone_, nullptr));
  host_.closed(this);
}

void Connection::gone() { close(); }

void Connection::set_on_gone(std::function<void()> callback) {
  on_gone_ = std::move(callback);
  if (input_ended_ || input_.size() > kMaxAheadBytes) gone();
}

// --- reading ---

void Connection::read() {
  if (reading_ || input_ended_ || closed_) return;
  reading_ = true;
  socket_.async_read_some(
      asio::buffer(chunk_),
      [self = shared_from_this()](const boost::system::error_code& error, size_t num_bytes) {
        self->on_read(error, num_bytes);
      });
}

void Connection::on_read(const boost::system::error_code& error, size_t num_bytes) {
  reading_ = false;
  if (closed_) return;
  if (error == asio::error::eof) return on_end_of_input();
  if (error) return gone();
  if (lingering_) return read();
  input_.append(chunk_.data(), num_bytes);
  if (exchange_ == nullptr) {
    feed();
  } else if (input_.size() > kMaxAheadBytes) {
    return on_gone_ ? gone() : void();  // reads on when the request in hand is answered
  }
  read();
}

void Connection::on_end_of_input() {
  input_ended_ = true;
  keep_alive_ = false;
  // With a callback somebody generates for nobody; without, an answer is on its way or written.
  if (on_gone_) return gone();
  if (exchange_ == nullptr) linger();
}

void Connection::feed() {
  while (!closed_ && exchange_ == nullptr && !close_when_written_ && !input_.empty()) {
    if (!request_begun_) {
      request_begun_ = true;
      waiting_for_ = State::kHeader;
      set_deadline(host_.options.read_time_s);
    }
    input_.erase(0, reader_.feed(input_));
    if (reader_.state() == State::kFailed) {
      return answer_error(reader_.error_status(), reader_.error_message());
    }
    count_body(reader_.body_bytes());
    if (host_.buffered_bytes > static_cast<int64_t>(host_.options.max_buffered_bytes)) {
      return answer_error(503, "too many large requests at once; try again later");
    }
    if (reader_.take_expects_continue()) send("HTTP/1.1 100 Continue\r\n\r\n");
    if (reader_.state() != State::kDone) {
      if (reader_.state() == State::kBody && waiting_for_ == State::kHeader) {
        waiting_for_ = State::kBody;
        set_deadline(host_.options.read_time_s);
      }
      return;
    }
    begin_exchange();
  }
}

void Connection::count_body(size_t num_bytes) {
  host_.buffered_bytes += static_cast<int64_t>(num_bytes) - counted_bytes_;
  counted_bytes_ = static_cast<int64_t>(num_bytes);
}

void Connection::begin_exchange() {
  count_body(0);  // the exchange counts it
  HttpRequest request = reader_.take_request();
  request.peer = peer_;
  keep_alive_ = request.keep_alive && !input_ended_;
  exchange_ = std::make_shared<ConnectionExchange>(shared_from_this(), std::move(request));
  const std::shared_ptr<Exchange> exchange = exchange_;
  host_.handler(exchange);
}

void Connection::answer_error(int status, const std::string& message) {
  count_body(0);
  ApiError error;
  error.status = status;
  error.message = message;
  send(response_bytes({status, "application/json", error_json(error), {}}, false, true));
  linger();
}

// --- writing ---

void Connection::respond(const HttpRequest& request, const HttpResponse& response) {
  keep_alive_ = keep_alive_ && !host_.draining;
  send(response_bytes(response, keep_alive_, request.method != "HEAD"));
  end_exchange();
}

void Connection::start_stream(const HttpRequest& request, const std::vector<Header>& headers) {
  streaming_ = true;
  chunked_ = request.is_http11;
  keep_alive_ = keep_alive_ && chunked_ && !host_.draining;
  send(stream_head_bytes(headers, chunked_, keep_alive_));
}

void Connection::write_stream(const std::string& events) {
  if (events.empty()) return;
  send(chunked_ ? chunk_bytes(events) : events);
  // The client takes less than it is sent: the request ends here, not the server's memory.
  if (output_.size() + in_flight_.size() - written_ > host_.options.max_send_buffer_bytes) gone();
}

void Connection::finish_stream() {
  if (chunked_) send(kLastChunk);
  streaming_ = false;
  end_exchange();
}

void Connection::end_exchange() {
  if (exchange_ != nullptr) exchange_->detach();
  exchange_.reset();
  on_gone_ = nullptr;
  request_begun_ = false;
  if (!keep_alive_) return linger();
  set_deadline(host_.options.idle_time_s);
  // Posted: a burst of pipelined requests must not nest.
  asio::post(socket_.get_executor(), [self = shared_from_this()] {
    self->feed();
    self->read();
  });
}

void Connection::send(std::string_view bytes) {
  if (closed_) return;
  output_ += bytes;
  last_write_ = Clock::now();
  if (!writing_) flush();
}

void Connection::flush() {
  if (written_ == in_flight_.size()) {
    in_flight_ = std::exchange(output_, {});
    written_ = 0;
  }
  writing_ = !in_flight_.empty();
  if (!writing_) {
    write_deadline_ = Clock::time_point::max();
    if (close_when_written_) {
      boost::system::error_code ignored;
      socket_.shutdown(Socket::shutdown_send, ignored);
      set_deadline(kLingerSeconds);
      if (input_ended_) close();
    }
    return;
  }
  write_deadline_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                       std::chrono::duration<double>(host_.options.write_time_s));
  socket_.async_write_some(
      asio::buffer(in_flight_.data() + written_, in_flight_.size() - written_),
      [self = shared_from_this()](const boost::system::error_code& error, size_t num_bytes) {
        self->on_written(error, num_bytes);
      });
}

void Connection::on_written(const boost::system::error_code& error, size_t num_bytes) {
  if (closed_) return;
  if (error) return gone();
  written_ += num_bytes;
  flush();
}

// The end of a connection that the client may still be sending on: closing at once would reset it
// and could take the answer away (RFC 9112 §9.6).
void Connection::linger() {
  lingering_ = true;
  close_when_written_ = true;
  keep_alive_ = false;
  input_.clear();
  if (!writing_) flush();
  read();
}

}  // namespace comet::server::http
