// Log-probabilities of raw logits, as OpenAI and vLLM give them: before bias, penalties,
// temperature.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace comet::engine {

struct TokenLogprob {
  int32_t token = -1;
  float logprob = 0;  // nats; −infinity is possible
};

/// Log-softmax at one position.
struct PositionLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // descending, ties by id
};

/// log Σ exp(logits), within 1e-6 relative.
double log_sum_exp(std::span<const float> logits);

/// Of `token` and of the num_top likeliest (fewer when the vocabulary is smaller).
PositionLogprobs position_logprobs(std::span<const float> logits, int32_t token, int64_t num_top);

}  // namespace comet::engine
