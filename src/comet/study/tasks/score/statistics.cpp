#include "comet/study/tasks/score/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "comet/base/check.h"
#include "comet/study/tasks/data/python_random.h"

namespace comet::study {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kRoundResamples = 1000;

double sample_stddev(std::span<const double> values) {
  const double mean = mean_of(values);
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

}  // namespace

double mean_of(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double stderr_of_mean(std::span<const double> values) {
  if (values.size() < 2) return kNone;
  return sample_stddev(values) / std::sqrt(static_cast<double>(values.size()));
}

double perplexity_of(std::span<const double> log_probs) { return std::exp(-mean_of(log_probs)); }

double bootstrap_perplexity_stderr(ThreadPool& pool, std::span<const double> log_probs,
                                   int64_t num_resamples) {
  if (log_probs.size() < 2) return kNone;
  const int64_t per_round = std::min(kRoundResamples, num_resamples);
  const int64_t num_rounds = num_resamples / per_round;
  const auto n = static_cast<double>(log_probs.size());
  std::vector<double> results(num_rounds * per_round);
  pool.parallel_for(num_rounds, [&](int64_t round, int) {
    PythonRandom random(static_cast<uint32_t>(round));
    for (int64_t i = 0; i < per_round; ++i) {
      double sum = 0;
      for (size_t k = 0; k < log_probs.size(); ++k) {
        sum += log_probs[static_cast<size_t>(random.uniform() * n)];
      }
      results[round * per_round + i] = std::exp(-(sum / n));
    }
  });
  return sample_stddev(results);
}

double pooled_stderr(std::span<const double> stderrs, std::span<const int64_t> sizes) {
  COMET_CHECK(stderrs.size() == sizes.size());
  double sum = 0;
  int64_t total = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto size = static_cast<double>(sizes[i]);
    sum += (size - 1) * stderrs[i] * stderrs[i] * size;
    total += sizes[i];
  }
  const int64_t freedom = total - static_cast<int64_t>(sizes.size());
  if (freedom <= 0) return kNone;
  return std::sqrt(sum / static_cast<double>(freedom) / static_cast<double>(total));
}

}  // namespace comet::study
