// Sender: one streaming completion each, its record filled as the events come. Callers: the load
// generator, the rate steps.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comet/base/json.h"
#include "comet/client/load/completion_events.h"
#include "comet/client/load/target.h"

namespace comet::client {

/// One request.
struct Ask {
  Json prompt;  // "prompt": ids or a text; of a chat the user's text
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  bool ignore_eos = true;
  /// After each event; false: the caller has seen enough, and the request ends well. May be empty.
  std::function<bool()> on_event;
  std::function<void()> on_done;
};

class Sender {
 public:
  /// `target.model` is set.
  Sender(EventLoop& loop, const Target& target, std::vector<std::string> served)
      : loop_(loop), target_(target), served_(std::move(served)) {}

  /// The record lives until on_done has been called, or the loop is gone.
  void send(RequestRecord& record, const Ask& ask);

 private:
  EventLoop& loop_;
  const Target& target_;
  std::vector<std::string> served_;  // for messages
};

}  // namespace comet::client
