// Request and TokenEvent: what goes into the engine and what comes out of it. Callers: server,
// generate, bench, study. Contract: README.md of this folder.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "comet/base/result.h"
#include "comet/engine/sampling/logprobs.h"
#include "comet/engine/sampling/sampling_params.h"

namespace comet::engine {

inline constexpr int64_t kMaxLogprobs = 20;

enum class FinishReason { kNone, kStop, kLength, kCancelled, kError };
/// "stop", "length", "cancelled" or "error"; "" for kNone.
const char* finish_reason_name(FinishReason reason);

/// Points of one monotonic clock; the epoch (time_point{}) is "not yet".
struct RequestTimes {
  using Point = std::chrono::steady_clock::time_point;
  Point submitted;    // taken by submit
  Point admitted;     // the step that first ran it began
  Point first_token;  // its first token was sampled
  Point now;          // of this event
};

struct TokenEvent {
  int64_t request_id = 0;
  int32_t token = -1;  // −1: no token in this event (prompt logprobs, cancelled, error)
  /// Text that became sure: whole UTF-8 characters, no part of a stop string. Perhaps empty, and
  /// perhaps of earlier tokens. Always empty without a tokenizer.
  std::string text;
  /// Of `token`, when asked: of the raw logits, before bias, penalties and temperature.
  std::optional<PositionLogprobs> logprobs;
  /// Once, in an event of its own before the first token, when asked: entry i is of prompt token i;
  /// entry 0 has no logprob (chosen.token is set, logprob is 0, top is empty).
  std::vector<PositionLogprobs> prompt_logprobs;
  FinishReason finish = FinishReason::kNone;  // set in exactly one event: the last
  std::string stop_string;                    // kStop: the stop string that was found, if one was
  std::string error;                          // kError: one sentence
  int64_t num_prompt_tokens = 0;
  int64_t num_output_tokens = 0;  // so far, this one included
  RequestTimes times;
};

struct Request {
  std::vector<int32_t> prompt;
  /// Cut to what the context leaves. 0: only the prompt is run (for prompt_logprobs).
  int64_t max_tokens = 128;
  int64_t min_tokens = 0;            // until then no stop token is sampled, no stop string ends it
  bool ignore_eos = false;           // EngineOptions::eos_tokens do not end it
  std::vector<int32_t> stop_tokens;  // end the request; published as its last token, without text
  std::vector<std::string> stop_strings;  // none empty; need a tokenizer
  bool skip_special_tokens = true;        // in the text
  SamplingParams sampling;
  int64_t num_logprobs = -1;     // −1: none; 0…kMaxLogprobs: the token's own and so many of the top
  bool prompt_logprobs = false;  // also of the prompt, with as many of the top
  int64_t priority = 0;          // not looked at yet
  /// Called on the engine's thread with every event; must not block or throw. false cancels the
  /// request: its last event (kCancelled) still comes.
  std::function<bool(TokenEvent&&)> on_event;
};

/// What a request must fit.
struct RequestBounds {
  int64_t vocab_size = 0;
  int64_t max_model_len = 0;
  bool has_tokenizer = false;
};
/// kInvalidArgument, with a sentence that opens with the field, when it can never run.
Status check_request(const Request& request, const RequestBounds& bounds);

}  // namespace comet::engine
