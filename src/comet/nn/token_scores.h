// What a row of logits says about tokens: log-probabilities and KL, in nats and FP64. Callers:
// quant's quality gate, study.
#pragma once

#include <cstdint>
#include <span>

namespace comet::nn {

/// log Σ exp(logits).
double log_sum_exp(std::span<const float> logits);

/// log p(token) under the softmax of `logits`.
double log_probability(std::span<const float> logits, int32_t token);

/// KL(base‖candidate) of the softmax distributions of two rows of equal length; never below 0.
double kl_divergence(std::span<const float> base_logits, std::span<const float> candidate_logits);

}  // namespace comet::nn
