#include "comet/engine/sampling/token_counts.h"

namespace comet::engine {

void TokenCounts::penalize(std::span<float> logits, const SamplingParams& params) const {
  for (const auto& [token, num_output] : num_output_) {
    double logit = logits[token];
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    logit -= params.frequency_penalty * static_cast<double>(num_output);
    if (num_output > 0) logit -= params.presence_penalty;
    logits[token] = static_cast<float>(logit);
  }
}

bool has_penalties(const SamplingParams& params) {
  return params.repetition_penalty != 1.0 || params.frequency_penalty != 0.0 ||
         params.presence_penalty != 0.0;
}

}  // namespace comet::engine
