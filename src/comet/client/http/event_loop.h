// EventLoop: timers and HTTP calls on one thread, the one that runs it. Every call ends by
// on_done, once: answered, refused, cut off or too slow (unless the loop is stopped). Callers: the
// load generator and `target`. Boost.Asio is behind it and seen by no one else.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "comet/client/http/url.h"

namespace comet::client {

struct CallLimits {
  double connect_s = 10;
  double stall_s = 60;  // without an answer, or an event of a stream
  double total_s = 1800;
};

struct CallRequest {
  std::string method = "GET";
  std::string path;  // behind the URL's own
  std::string body;  // JSON, for POST
  std::string api_key;
  bool stream = false;  // the answer must be server-sent events
  CallLimits limits;
};

/// How a call ended.
struct CallOutcome {
  std::string error_kind;  // empty: well. connect, http_401, stall, time, cut, protocol, refused
  std::string message;     // of an error: one sentence
  int status = 0;          // 0: no answer
  std::string body;        // of an answer that is no stream, bounded
};

struct CallHandlers {
  /// An event's data and when it was read (now_s). False: the caller has seen enough; the call
  /// then ends well.
  std::function<bool(std::string_view data, double at_s)> on_event;
  std::function<void(const CallOutcome&)> on_done;
};

class EventLoop {
 public:
  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  /// Looks the host up; every call goes there. Once, before the first call.
  Status resolve(const Url& url);
  /// Seconds since the loop was made.
  [[nodiscard]] double now_s() const;
  /// Runs `task` at that time, at once if it is past.
  void at(double time_s, std::function<void()> task);
  void call(CallRequest request, CallHandlers handlers);
  /// Until no timer and no call is left, or stop().
  void run();
  /// run() returns behind the task in hand. Timers and calls that are left never end: the loop goes
  /// next, and closes their connections.
  void stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// One call by itself: the outcome of run().
CallOutcome call_once(EventLoop& loop, CallRequest request);

}  // namespace comet::client
