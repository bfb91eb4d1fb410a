#include "comet/engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "comet/base/check.h"
#include "comet/base/rng.h"
#include "comet/device/cpu/simd.h"

namespace comet::engine {
namespace {

/// Not stream 0: there, seed and counter are interchangeable, and their draw is 0 where they agree.
constexpr uint64_t kDrawStream = 1;
constexpr double kGreedyBelow = 1e-5;  // temperatures that no float can tell from 0 (as vLLM)
/// Weights below e^−this share of the largest seldom matter: tried first without them.
constexpr float kUsualSpread = 12.0F;

using Candidate = SamplerScratch::Candidate;

/// The order in which tokens are kept: descending by logit, ties by id.
bool comes_before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

/// Fills weights[i] = exp((logits[i] − max) · scale); weights has a multiple of kLanes entries, of
/// which those past the end are 0.
void fill_weights(std::vector<float>& weights, std::span<const float> logits, float max,
                  float scale) {
  using simd::kLanes;
  const size_t n = logits.size();
  weights.resize((n + kLanes - 1) / kLanes * kLanes);
  for (size_t i = 0; i < n; ++i) weights[i] = (logits[i] - max) * scale;
  for (size_t i = n; i < weights.size(); ++i) weights[i] = -1e4F;
  for (size_t i = 0; i < weights.size(); i += kLanes) {
    simd::store(weights.data() + i, simd::exp(simd::load(weights.data() + i)));
  }
}

/// Chooses among candidates in comes_before order, without sorting them all.
class Nucleus {
 public:
  Nucleus(std::span<const float> logits, float max, float scale, SamplerScratch& scratch)
      : logits_(logits), max_(max), scale_(scale), scratch_(scratch) {}

  /// Leaves in scratch.candidates exactly the kept ones, in no useful order.
  void keep(const SamplingParams& params) {
    const auto num_tokens = static_cast<int64_t>(logits_.size());
    const int64_t k = params.top_k > 0 ? std::min(params.top_k, num_tokens) : num_tokens;
    const double all_mass = k < num_tokens ? 0.0 : mass_of_all();
    collect(max_ - kUsualSpread / scale_);
    if (!are_enough(params, k, all_mass)) collect(-std::numeric_limits<float>::infinity());
    if (k < num_candidates()) keep_count(k);
    if (params.top_p < 1.0) {
      keep_mass(params.top_p * (k < num_tokens ? mass_of_candidates() : all_mass));
    }
    if (params.min_p > 0) keep_floor(params.min_p);
  }

 private:
  [[nodiscard]] int64_t num_candidates() const {
    return static_cast<int64_t>(scratch_.candidates.size());
  }
  [[nodiscard]] double weight(const Candidate& c) const { return scratch_.weights[c.token]; }

  /// Whether every token that may be kept is among the candidates.
  [[nodiscard]] bool are_enough(const SamplingParams& params, int64_t k, double all_mass) const {
    if (k < static_cast<int64_t>(logits_.size())) return num_candidates() >= k;
    if (params.top_p < 1.0) return mass_of_candidates() >= params.top_p * all_mass;
    return params.min_p > std::exp(1.0F - kUsualSpread);
  }

  void collect(float floor) {
    scratch_.candidates.clear();
    for (size_t i = 0; i < logits_.size(); ++i) {
      if (logits_[i] >= floor) scratch_.candidates.push_back({logits_[i], static_cast<int32_t>(i)});
    }
  }

  [[nodiscard]] double mass_of_all() const {
    double mass = 0;
    for (const float w : scratch_.weights) mass += w;
    return mass;
  }
  [[nodiscard]] double mass_of_candidates() const {
    double mass = 0;
    for (const Candidate& c : scratch_.candidates) mass += weight(c);
    return mass;
  }

  void keep_count(int64_t k) {
    auto& all = scratch_.candidates;
    std::nth_element(all.begin(), all.begin() + k - 1, all.end(), comes_before);
    all.resize(k);
  }

  /// The shortest beginning of the order whose mass reaches `target`, at least one: halves the
  /// range that holds its end until one candidate is left.
  void keep_mass(double target) {
    auto& all = scratch_.candidates;
    size_t begin = 0;  // all before are kept; their mass has been subtracted from target
    size_t end = all.size();
    while (end - begin > 1) {
      const size_t middle = begin + (end - begin) / 2;
      const auto first = all.begin();
      std::nth_element(first + static_cast<int64_t>(begin), first + static_cast<int64_t>(middle),
                       first + static_cast<int64_t>(end), comes_before);
      double mass = 0;
      for (size_t i = begin; i < middle; ++i) mass += weight(all[i]);
      if (mass >= target) {
        end = middle;
      } else {
        target -= mass;
        begin = middle;
      }
    }
    all.resize(end);
  }

  void keep_floor(double min_p) {
    const float floor = static_cast<float>(min_p);  // the largest weight is 1
    std::erase_if(scratch_.candidates, [&](const Candidate& c) { return weight(c) < floor; });
  }

  std::span<const float> logits_;
  float max_;
  float scale_;
  SamplerScratch& scratch_;
};

/// The number at share `u` of the sum of weight(0…count); one whose weight is above 0.
template <typename Weight>
size_t draw(size_t count, double u, const Weight& weight) {
  double total = 0;
  for (size_t i = 0; i < count; ++i) total += weight(i);
  const double target = u * total;
  double sum = 0;
  size_t last = 0;
  for (size_t i = 0; i < count; ++i) {
    if (weight(i) <= 0) continue;
    sum += weight(i);
    last = i;
    if (target < sum) break;
  }
  return last;
}

/// The logits with what the request adds to them; `logits` itself when that is nothing.
std::span<const float> adjust(std::span<const float> logits, const SamplingParams& params,
                              const SamplePoint& point, SamplerScratch& scratch) {
  if (point.forbidden.empty() && params.logit_bias.empty() && !has_penalties(params)) {
    return logits;
  }
  std::vector<float>& changed = scratch.logits;
  changed.assign(logits.begin(), logits.end());
  for (const int32_t token : point.forbidden) {
    if (token >= 0 && token < static_cast<int64_t>(changed.size())) {
      changed[token] = -std::numeric_limits<float>::infinity();
    }
  }
  for (const auto& [token, bias] : params.logit_bias) changed[token] += bias;
  if (has_penalties(params)) point.counts.penalize(changed, params);
  return changed;
}

}  // namespace

int32_t sample_token(std::span<const float> logits, const SamplingParams& params,
                     const SamplePoint& point, SamplerScratch& scratch) {
  COMET_CHECK(!logits.empty());
  logits = adjust(logits, params, point, scratch);
  const auto likeliest = std::max_element(logits.begin(), logits.end());
  if (params.temperature < kGreedyBelow || std::isinf(*likeliest)) {
    return static_cast<int32_t>(likeliest - logits.begin());
  }
  const auto scale = static_cast<float>(1.0 / params.temperature);
  fill_weights(scratch.weights, logits, *likeliest, scale);
  const double u = static_cast<double>(Rng(params.seed, kDrawStream).bits(point.position) >> 11) *
                   0x1p-53;  // [0, 1), 53 bits
  const std::vector<float>& weights = scratch.weights;
  if (params.top_k == 0 && params.top_p >= 1.0 && params.min_p <= 0) {
    return static_cast<int32_t>(draw(weights.size(), u, [&](size_t i) { return weights[i]; }));
  }
  Nucleus(logits, *likeliest, scale, scratch).keep(params);
  auto& kept = scratch.candidates;
  std::sort(kept.begin(), kept.end(),
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  return kept[draw(kept.size(), u, [&](size_t i) { return weights[kept[i].token]; })].token;
}

}  // namespace comet::engine
