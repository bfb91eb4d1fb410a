#include "comet/nn/token_scores.h"

#include <algorithm>
#include <cmath>

#include "comet/base/check.h"

namespace comet::nn {

double log_sum_exp(std::span<const float> logits) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return max + std::log(sum);
}

double log_probability(std::span<const float> logits, int32_t token) {
  COMET_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size(), "token {} of {}", token,
              logits.size());
  return logits[token] - log_sum_exp(logits);
}

double kl_divergence(std::span<const float> base_logits, std::span<const float> candidate_logits) {
  COMET_CHECK(base_logits.size() == candidate_logits.size(), "{} and {} logits", base_logits.size(),
              candidate_logits.size());
  const double base_norm = log_sum_exp(base_logits);
  const double candidate_norm = log_sum_exp(candidate_logits);
  double sum = 0.0;
  for (size_t i = 0; i < base_logits.size(); ++i) {
    const double log_p = base_logits[i] - base_norm;
    sum += std::exp(log_p) * (log_p - (candidate_logits[i] - candidate_norm));
  }
  return std::max(sum, 0.0);  // rounding alone can take it below
}

}  // namespace comet::nn
