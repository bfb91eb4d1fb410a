// Sequence: a request on its way through the engine. Owned and changed by the engine's thread
// alone.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "comet/engine/request.h"
#include "comet/engine/sampling/token_counts.h"
#include "comet/engine/scheduler.h"
#include "comet/engine/stop_matcher.h"
#include "comet/text/stream_decoder.h"

namespace comet::engine {

struct Sequence {
  int64_t id = 0;
  Request request;
  std::vector<int32_t> end_tokens;  // stop tokens and, unless ignored, EOS
  std::vector<int32_t> tokens;      // prompt and output
  std::vector<int32_t> pages;
  int32_t slot = -1;  // of the cache's window, while admitted
  SequenceState state;
  TokenCounts counts;  // empty unless a penalty needs it
  std::optional<text::StreamDecoder> decoder;
  StopMatcher stops;
  std::vector<PositionLogprobs> prompt_logprobs;  // so far; given away with their event
  RequestTimes times;
  bool prompt_done = false;  // all of the prompt has been computed, once
  bool cancel_requested = false;
  bool finished = false;

  [[nodiscard]] int64_t num_prompt() const { return static_cast<int64_t>(request.prompt.size()); }
  [[nodiscard]] int64_t num_output() const {
    return static_cast<int64_t>(tokens.size()) - num_prompt();
  }
  [[nodiscard]] bool wants_prompt_rows() const { return request.prompt_logprobs && !prompt_done; }
  [[nodiscard]] bool is_end_token(int32_t token) const;
};

}  // namespace comet::engine
