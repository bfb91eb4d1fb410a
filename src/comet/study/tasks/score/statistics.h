// Means, perplexities and their standard errors as lm-evaluation-harness prints them
// (api/metrics.py). Caller: the task runner.
#pragma once

#include <cstdint>
#include <span>

#include "comet/device/thread_pool.h"

namespace comet::study {

double mean_of(std::span<const double> values);
/// Sample standard deviation / √n; NaN for fewer than two values.
double stderr_of_mean(std::span<const double> values);
/// exp(−mean) of log-likelihoods.
double perplexity_of(std::span<const double> log_probs);
/// Standard deviation of the perplexities of `num_resamples` resamples, drawn by Python's random as
/// lm-eval draws them: in rounds of at most 1,000, round i seeded with i. NaN for fewer than two
/// values.
double bootstrap_perplexity_stderr(ThreadPool& pool, std::span<const double> log_probs,
                                   int64_t num_resamples);

/// Of a group's mean weighted by size: √(Σ (nᵢ−1) nᵢ sᵢ² / (Σnᵢ − k) / Σnᵢ). NaN when a part has
/// none or there are no degrees of freedom.
double pooled_stderr(std::span<const double> stderrs, std::span<const int64_t> sizes);

}  // namespace comet::study
