#include "comet/engine/request.h"

#include <cmath>

namespace comet::engine {
namespace {

constexpr double kMaxMagnitude = 1e6;  // of penalties and temperature: far beyond any use

Status check_range(const char* field, double value, double low, double high) {
  if (value >= low && value <= high) return {};  // NaN fails
  return make_error(ErrorCode::kInvalidArgument, "{} is {}; expected {} to {}", field, value, low,
                    high);
}

Status check_sampling(const SamplingParams& params, int64_t vocab_size) {
  for (const Status& status :
       {check_range("temperature", params.temperature, 0, kMaxMagnitude),
        check_range("top_p", params.top_p, 0, 1), check_range("min_p", params.min_p, 0, 1),
        check_range("repetition_penalty", params.repetition_penalty, 1e-6, kMaxMagnitude),
        check_range("presence_penalty", params.presence_penalty, -kMaxMagnitude, kMaxMagnitude),
        check_range("frequency_penalty", params.frequency_penalty, -kMaxMagnitude,
                    kMaxMagnitude)}) {
    if (!status) return status;
  }
  if (params.top_k < 0) {
    return make_error(ErrorCode::kInvalidArgument, "top_k is {}; expected 0 (off) or more",
                      params.top_k);
  }
  for (const auto& [token, bias] : params.logit_bias) {
    if (token < 0 || token >= vocab_size) {
      return make_error(ErrorCode::kInvalidArgument,
                        "logit_bias: token {} is outside the model's vocabulary of {}", token,
                        vocab_size);
    }
    if (auto status = check_range("logit_bias", bias, -kMaxMagnitude, kMaxMagnitude); !status) {
      return status;
    }
  }
  return {};
}

Status check_prompt(const std::vector<int32_t>& prompt, int64_t num_answer,
                    const RequestBounds& bounds) {
  const auto length = static_cast<int64_t>(prompt.size());
  if (length == 0) {
    return make_error(ErrorCode::kInvalidArgument, "the prompt is empty: it needs a token");
  }
  if (length + num_answer > bounds.max_model_len) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the prompt has {} tokens; the context holds {}, one of them for the answer",
                      length, bounds.max_model_len);
  }
  for (const int32_t token : prompt) {
    if (token < 0 || token >= bounds.vocab_size) {
      return make_error(ErrorCode::kInvalidArgument,
                        "prompt token {} is outside the model's vocabulary of {}", token,
                        bounds.vocab_size);
    }
  }
  return {};
}

}  // namespace

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return "";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kError:
      return "error";
  }
  return "";
}

Status check_request(const Request& request, const RequestBounds& bounds) {
  const int64_t num_answer = request.max_tokens == 0 ? 0 : 1;
  if (auto status = check_prompt(request.prompt, num_answer, bounds); !status) return status;
  if (request.max_tokens < 0) {
    return make_error(ErrorCode::kInvalidArgument, "max_tokens is {}; expected 0 or more",
                      request.max_tokens);
  }
  if (request.min_tokens < 0 || request.min_tokens > request.max_tokens) {
    return make_error(ErrorCode::kInvalidArgument, "min_tokens is {}; expected 0 to max_tokens {}",
                      request.min_tokens, request.max_tokens);
  }
  if (request.num_logprobs < -1 || request.num_logprobs > kMaxLogprobs) {
    return make_error(ErrorCode::kInvalidArgument, "logprobs is {}; expected 0 to {}",
                      request.num_logprobs, kMaxLogprobs);
  }
  for (const std::string& stop : request.stop_strings) {
    if (stop.empty()) {
      return make_error(ErrorCode::kInvalidArgument,
                        "stop: an empty text would end every answer; leave it out");
    }
  }
  if (!request.stop_strings.empty() && !bounds.has_tokenizer) {
    return make_error(ErrorCode::kInvalidArgument,
                      "stop: this model has no tokenizer, so there is no text to search");
  }
  return check_sampling(request.sampling, bounds.vocab_size);
}

}  // namespace comet::engine
