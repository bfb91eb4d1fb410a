#include "comet/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "comet/base/check.h"
#include "comet/base/rng.h"

namespace comet::engine {
namespace {

void penalize_repetition(std::span<float> logits, double penalty,
                         std::span<const int32_t> history) {
  std::vector<int32_t> seen(history.begin(), history.end());
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  const auto factor = static_cast<float>(penalty);
  for (const int32_t token : seen) {
    float& logit = logits[token];
    logit = logit > 0 ? logit / factor : logit * factor;
  }
}

struct Candidate {
  float weight;  // exp((logit − max) / temperature)
  int32_t token;
};

/// Descending by weight, ties by token id; cut by top-k, top-p and min-p.
std::vector<Candidate> candidates(std::span<const float> logits, const SamplingParams& params) {
  const float max = *std::max_element(logits.begin(), logits.end());
  std::vector<Candidate> all(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    const double scaled = (static_cast<double>(logits[i]) - max) / params.temperature;
    all[i] = {static_cast<float>(std::exp(scaled)), static_cast<int32_t>(i)};
  }
  const auto before = [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  };
  const size_t k = params.top_k > 0 ? std::min<size_t>(params.top_k, all.size()) : all.size();
  std::partial_sort(all.begin(), all.begin() + static_cast<int64_t>(k), all.end(), before);
  all.resize(k);
  if (params.top_p < 1.0) {
    double total = 0;
    for (const Candidate& c : all) total += c.weight;
    double sum = 0;
    size_t keep = 0;
    while (keep < all.size() && sum < params.top_p * total) sum += all[keep++].weight;
    all.resize(std::max<size_t>(keep, 1));
  }
  if (params.min_p > 0) {  // the first has weight 1 before scaling: the largest probability
    const auto floor = static_cast<float>(params.min_p) * all.front().weight;
    while (all.size() > 1 && all.back().weight < floor) all.pop_back();
  }
  return all;
}

}  // namespace

int32_t sample_token(std::span<float> logits, const SamplingParams& params,
                     std::span<const int32_t> history) {
  COMET_CHECK(!logits.empty());
  if (params.repetition_penalty != 1.0) {
    penalize_repetition(logits, params.repetition_penalty, history);
  }
  if (params.temperature <= 0.0) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  const std::vector<Candidate> kept = candidates(logits, params);
  double total = 0;
  for (const Candidate& c : kept) total += c.weight;
  const double target = Rng(params.seed).uniform(history.size()) * total;
  double sum = 0;
  for (const Candidate& c : kept) {
    sum += c.weight;
    if (target < sum) return c.token;
  }
  return kept.back().token;
}

}  // namespace comet::engine
