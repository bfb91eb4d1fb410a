#include "comet/client/http/event_loop.h"

#include <array>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <chrono>

#include "comet/client/http/response_reader.h"
#include "comet/client/http/sse_parser.h"

namespace comet::client {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Clock = std::chrono::steady_clock;

constexpr size_t kMaxPlainBodyBytes = size_t{64} << 20;
constexpr double kCheckPeriodS = 0.05;  // how often a call's deadlines are looked at

std::string request_bytes(const Url& url, const CallRequest& request) {
  std::string text = fmt::format("{} {}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: comet\r\n",
                                 request.method, url.path, request.path, url.authority());
  text += request.stream ? "Accept: text/event-stream\r\n" : "Accept: application/json\r\n";
  if (!request.api_key.empty()) {
    text += fmt::format("Authorization: Bearer {}\r\n", request.api_key);
  }
  if (request.method == "POST") {
    text += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n",
                        request.body.size());
  }
  return text + "Connection: close\r\n\r\n" + request.body;
}

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// One call: a connection of its own, kept alive by the handlers that are under way.
class Call : public std::enable_shared_from_this<Call> {
 public:
  Call(asio::io_context& io, Clock::time_point epoch, const Url& url, CallRequest request,
       CallHandlers handlers)
      : socket_(io),
        timer_(io),
        epoch_(epoch),
        request_(std::move(request)),
        handlers_(std::move(handlers)),
        output_(request_bytes(url, request_)),
        where_(url.text()) {}

  void start(const std::vector<tcp::endpoint>& endpoints) {
    begin_s_ = seconds_since(epoch_);
    deadline_s_ = begin_s_ + request_.limits.connect_s;
    watch();
    asio::async_connect(
        socket_, endpoints,
        [self = shared_from_this()](const boost::system::error_code& error, const tcp::endpoint&) {
          self->on_connected(error);
        });
  }

 private:
  enum class Stage { kConnecting, kWaiting, kStreaming };

  void watch() {
    timer_.expires_after(
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(kCheckPeriodS)));
    timer_.async_wait([self = shared_from_this()](const boost::system::error_code& stopped) {
      if (!stopped && !self->done_) self->check_deadlines();
    });
  }

  void check_deadlines() {
    const double now_s = seconds_since(epoch_);
    const CallLimits& limits = request_.limits;
    if (now_s - begin_s_ >= limits.total_s) {
      return fail("time",
                  fmt::format("{}: the answer was not whole after {:g} s", where_, limits.total_s));
    }
    if (now_s < deadline_s_) return watch();
    switch (stage_) {
      case Stage::kConnecting:
        return fail("connect", fmt::format("{}: no connection within {:g} s; is the server up?",
                                           where_, limits.connect_s));
      case Stage::kWaiting:
        return fail("stall", fmt::format("{}: no answer within {:g} s", where_, limits.stall_s));
      case Stage::kStreaming:
        return fail("stall", fmt::format("{}: the stream stalled: no event for {:g} s", where_,
                                         limits.stall_s));
    }
  }

  void on_connected(const boost::system::error_code& error) {
    if (done_) return;
    if (error) {
      return fail("connect", fmt::format("cannot connect to {}: {}; is the server up?", where_,
                                         error.message()));
    }
    boost::system::error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    stage_ = Stage::kWaiting;
    deadline_s_ = seconds_since(epoch_) + request_.limits.stall_s;
    asio::async_write(socket_, asio::buffer(output_),
                      [self = shared_from_this()](const boost::system::error_code&, size_t) {
                        // A server may answer and close before it has read all: the read tells.
                      });
    read();
  }

  void read() {
    socket_.async_read_some(
        asio::buffer(chunk_),
        [self = shared_from_this()](const boost::system::error_code& error, size_t num_bytes) {
          self->on_read(error, num_bytes);
        });
  }

  void on_read(const boost::system::error_code& error, size_t num_bytes) {
    if (done_) return;
    const double at_s = seconds_since(epoch_);
    const bool fine = error ? reader_.feed_end() : reader_.feed({chunk_.data(), num_bytes});
    if (reader_.has_header()) take_body(at_s);
    if (done_) return;
    if (!fine) return fail_read(error);
    if (reader_.is_done()) return end_body();
    if (error) return fail_read(error);
    read();
  }

  void fail_read(const boost::system::error_code& error) {
    if (!error) {
      return fail("protocol",
                  fmt::format("{}: the answer is no HTTP ({}); is this an OpenAI server?", where_,
                              reader_.error()));
    }
    const std::string reason = error == asio::error::eof ? "the connection ended" : error.message();
    fail("cut", fmt::format("{}: the answer broke off: {}", where_, reason));
  }

  [[nodiscard]] bool is_stream() const {
    return request_.stream && reader_.status() == 200 &&
           reader_.content_type() == "text/event-stream";
  }

  void take_body(double at_s) {
    const std::string piece = reader_.take_body();
    if (!is_stream()) {
      body_ += piece;
      if (body_.size() > kMaxPlainBodyBytes) fail("protocol", where_ + ": the answer is too long");
      return;
    }
    stage_ = Stage::kStreaming;
    bool enough = false;
    const bool fine = events_.feed(piece, [&](std::string_view data) {
      if (data == "[DONE]") return !(enough = true);
      deadline_s_ = at_s + request_.limits.stall_s;
      return !(enough = !handlers_.on_event(data, at_s));
    });
    if (enough) return finish({"", "", reader_.status(), ""});
    if (!fine) fail("protocol", where_ + ": an event of the stream is too long");
  }

  /// The body is whole. A stream that ends so has no [DONE].
  void end_body() {
    if (is_stream()) {
      return fail("cut", where_ + ": the stream ended without [DONE]");
    }
    const int status = reader_.status();
    if (status != 200) {
      return finish({fmt::format("http_{}", status), fmt::format("{}: status {}", where_, status),
                     status, std::move(body_)});
    }
    if (request_.stream) {
      const std::string type = reader_.content_type();
      return finish({"protocol",
                     fmt::format("{}{}: answered with '{}' where text/event-stream was asked for; "
                                 "is this an OpenAI server that can stream?",
                                 where_, request_.path, type.empty() ? "no content type" : type),
                     status, std::move(body_)});
    }
    finish({"", "", status, std::move(body_)});
  }

  void fail(std::string kind, std::string message) {
    const int status = reader_.has_header() ? reader_.status() : 0;
    finish({std::move(kind), std::move(message), status, ""});
  }

  void finish(const CallOutcome& outcome) {
    if (done_) return;
    done_ = true;
    timer_.cancel();
    boost::system::error_code ignored;
    socket_.close(ignored);
    handlers_.on_done(outcome);
  }

  tcp::socket socket_;
  asio::steady_timer timer_;
  Clock::time_point epoch_;
  CallRequest request_;
  CallHandlers handlers_;
  std::string output_;
  std::string where_;
  ResponseReader reader_;
  SseParser events_;
  std::string body_;
  std::array<char, 16384> chunk_{};
  Stage stage_ = Stage::kConnecting;
  double begin_s_ = 0;
  double deadline_s_ = 0;
  bool done_ = false;
};

}  // namespace

struct EventLoop::State {
  asio::io_context io{1};
  Clock::time_point epoch = Clock::now();
  Url url;
  std::vector<tcp::endpoint> endpoints;
};

EventLoop::EventLoop() : state_(std::make_unique<State>()) {}
EventLoop::~EventLoop() = default;

Status EventLoop::resolve(const Url& url) {
  boost::system::error_code error;
  tcp::resolver resolver(state_->io);
  const auto found = resolver.resolve(url.host, std::to_string(url.port), error);
  if (error) {
    return make_error(ErrorCode::kNotFound, "{}: the host '{}' is not known: {}", url.text(),
                      url.host, error.message());
  }
  state_->url = url;
  for (const auto& entry : found) state_->endpoints.push_back(entry.endpoint());
  return {};
}

double EventLoop::now_s() const { return seconds_since(state_->epoch); }

void EventLoop::at(double time_s, std::function<void()> task) {
  auto timer = std::make_shared<asio::steady_timer>(state_->io);
  timer->expires_at(state_->epoch + std::chrono::duration_cast<Clock::duration>(
                                        std::chrono::duration<double>(time_s)));
  timer->async_wait([timer, task = std::move(task)](const boost::system::error_code& stopped) {
    if (!stopped) task();
  });
}

void EventLoop::call(CallRequest request, CallHandlers handlers) {
  COMET_CHECK(!state_->endpoints.empty(), "resolve() comes first");
  std::make_shared<Call>(state_->io, state_->epoch, state_->url, std::move(request),
                         std::move(handlers))
      ->start(state_->endpoints);
}

void EventLoop::run() {
  state_->io.restart();
  state_->io.run();
}

void EventLoop::stop() { state_->io.stop(); }

CallOutcome call_once(EventLoop& loop, CallRequest request) {
  CallOutcome result;
  loop.call(std::move(request), {[](std::string_view, double) { return true; },
                                 [&result](const CallOutcome& outcome) { result = outcome; }});
  loop.run();
  return result;
}

}  // namespace comet::client
