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

// KL = E_p[a − b] − (log Z_a − log Z_b): one exponential a value and model.
double kl_divergence(std::span<const float> base_logits, std::span<const float> candidate_logits) {
  COMET_CHECK(base_logits.size() == candidate_logits.size(), "{} and {} logits", base_logits.size(),
              candidate_logits.size());
  const double base_max = *std::max_element(base_logits.begin(), base_logits.end());
  const double candidate_max = *std::max_element(candidate_logits.begin(), candidate_logits.end());
  double base_sum = 0.0;
  double candidate_sum = 0.0;
  double weighted = 0.0;
  for (size_t i = 0; i < base_logits.size(); ++i) {
    const double a = base_logits[i] - base_max;
    const double b = candidate_logits[i] - candidate_max;
    const double p = std::exp(a);
    base_sum += p;
    candidate_sum += std::exp(b);
    weighted += p * (a - b);
  }
  const double kl = weighted / base_sum - (std::log(base_sum) - std::log(candidate_sum));
  return kl < 0.0 ? 0.0 : kl;  // rounding alone can take it below; NaN stays
}

}  // namespace comet::nn
