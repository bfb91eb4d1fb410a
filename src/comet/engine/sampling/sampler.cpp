#include "comet/engine/sampling/sampler.h"

#include <algorithm>
#include <array>
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
/// Weights below e^−x of the largest seldom matter: tried first without them.
constexpr std::array<float, 2> kUsualSpreads{6.0F, 12.0F};
constexpr size_t kSumBlock = 64;

using Candidate = SamplerScratch::Candidate;

/// The order in which tokens are kept: descending by logit, ties by id.
bool comes_before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

float largest(std::span<const float> x) {
  std::array<float, 16> lanes;
  lanes.fill(x[0]);
  size_t i = 0;
  for (; i + lanes.size() <= x.size(); i += lanes.size()) {
    for (size_t j = 0; j < lanes.size(); ++j) lanes[j] = std::max(lanes[j], x[i + j]);
  }
  for (; i < x.size(); ++i) lanes[0] = std::max(lanes[0], x[i]);
  return *std::max_element(lanes.begin(), lanes.end());
}

double sum(std::span<const float> x) {
  std::array<double, 4> lanes{};
  size_t i = 0;
  for (; i + lanes.size() <= x.size(); i += lanes.size()) {
    for (size_t j = 0; j < lanes.size(); ++j) lanes[j] += x[i + j];
  }
  for (; i < x.size(); ++i) lanes[0] += x[i];
  return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

/// The number at share `u` of the sum of weights; one whose weight is above 0.
size_t draw(std::span<const float> weights, double u) {
  const auto block = [&](size_t begin) {
    return weights.subspan(begin, std::min(kSumBlock, weights.size() - begin));
  };
  double total = 0;
  for (size_t i = 0; i < weights.size(); i += kSumBlock) total += sum(block(i));
  double left = u * total;
  size_t last = 0;
  for (size_t i = 0; i < weights.size(); i += kSumBlock) {
    const double mass = sum(block(i));
    if (mass <= 0) continue;
    const bool is_here = left < mass;
    for (size_t j = 0; j < block(i).size(); ++j) {
      const float weight = weights[i + j];
      if (weight <= 0) continue;
      last = i + j;
      if (!is_here) continue;
      left -= weight;
      if (left < 0) return last;
    }
    if (is_here) return last;  // rounding: the last of the block
    left -= mass;
  }
  return last;
}

/// weights[i] = exp((logits[i] − max) · scale).
void fill_weights(std::vector<float>& weights, std::span<const float> logits, float max,
                  float scale) {
  using simd::kLanes;
  const size_t n = logits.size();
  weights.resize(n);
  const auto exp_at = [&](const float* x) {
    return simd::exp(simd::mul(simd::sub(simd::load(x), simd::splat(max)), simd::splat(scale)));
  };
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) simd::store(weights.data() + i, exp_at(logits.data() + i));
  std::array<float, kLanes> rest;
  rest.fill(max);
  std::copy(logits.begin() + static_cast<int64_t>(i), logits.end(), rest.begin());
  simd::store(rest.data(), exp_at(rest.data()));
  std::copy_n(rest.begin(), n - i, weights.begin() + static_cast<int64_t>(i));
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
    const double all_mass = k < num_tokens ? 0.0 : sum(scratch_.weights);
    bool enough = false;
    for (size_t i = 0; i < kUsualSpreads.size() && !enough; ++i) {
      collect(max_ - kUsualSpreads[i] / scale_);
      enough = are_enough(params, k, all_mass, kUsualSpreads[i]);
    }
    if (!enough) collect(-std::numeric_limits<float>::infinity());
    if (k < num_candidates()) {
      keep_until(static_cast<double>(k), [](const Candidate&) { return 1.0; });
    }
    if (params.top_p < 1.0) {
      const double mass = k < num_tokens ? mass_of_candidates() : all_mass;
      keep_until(params.top_p * mass, [&](const Candidate& c) { return weight(c); });
    }
    if (params.min_p > 0) keep_floor(params.min_p);
  }

 private:
  static constexpr size_t kBins = 128;
  static constexpr float kBinsPerNat = 10.0F;

  [[nodiscard]] int64_t num_candidates() const {
    return static_cast<int64_t>(scratch_.candidates.size());
  }
  [[nodiscard]] double weight(const Candidate& c) const { return scratch_.weights[c.token]; }

  /// Whether every token that may be kept is among the candidates.
  [[nodiscard]] bool are_enough(const SamplingParams& params, int64_t k, double all_mass,
                                float spread) const {
    if (k < static_cast<int64_t>(logits_.size())) return num_candidates() >= k;
    if (params.top_p < 1.0) return mass_of_candidates() >= params.top_p * all_mass;
    return params.min_p > std::exp(1.0F - spread);
  }

  void collect(float floor) {
    auto& all = scratch_.candidates;
    all.resize(logits_.size());
    size_t count = 0;
    for (size_t i = 0; i < logits_.size(); ++i) {  // no branch to mispredict
      all[count] = {logits_[i], static_cast<int32_t>(i)};
      count += logits_[i] >= floor ? 1 : 0;
    }
    all.resize(count);
  }

  [[nodiscard]] double mass_of_candidates() const {
    double mass = 0;
    for (const Candidate& c : scratch_.candidates) mass += weight(c);
    return mass;
  }

  /// Of the order's 0…kBins − 1 parts, the one that holds c: never before that of a likelier one.
  [[nodiscard]] size_t bin(const Candidate& c) const {
    const float distance = (max_ - c.logit) * scale_ * kBinsPerNat;
    return distance < kBins - 1 ? static_cast<size_t>(distance) : kBins - 1;
  }

  /// Keeps the shortest beginning of the order whose measure reaches `target`, at least one: finds
  /// the bin that holds its end, then halves that bin until one candidate is left.
  template <typename Measure>
  void keep_until(double target, const Measure& measure) {
    auto& all = scratch_.candidates;
    std::array<double, kBins> masses{};
    for (const Candidate& c : all) masses[bin(c)] += measure(c);
    size_t cut = 0;
    while (cut + 1 < kBins && masses[cut] < target) target -= masses[cut++];
    std::erase_if(all, [&](const Candidate& c) { return bin(c) > cut; });
    auto begin =
        std::partition(all.begin(), all.end(), [&](const Candidate& c) { return bin(c) < cut; });
    auto end = all.end();
    while (end - begin > 1) {
      const auto middle = begin + (end - begin) / 2;
      std::nth_element(begin, middle, end, comes_before);
      double mass = 0;
      for (auto c = begin; c != middle; ++c) mass += measure(*c);
      if (mass >= target) {
        end = middle;
      } else {
        target -= mass;
        begin = middle;
      }
    }
    all.erase(end, all.end());
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
  const float max = largest(logits);
  if (params.temperature < kGreedyBelow || std::isinf(max)) {
    return static_cast<int32_t>(std::find(logits.begin(), logits.end(), max) - logits.begin());
  }
  const auto scale = static_cast<float>(1.0 / params.temperature);
  std::vector<float>& weights = scratch.weights;
  fill_weights(weights, logits, max, scale);
  const uint64_t bits = Rng(params.seed, kDrawStream).bits(point.position);
  const double u = static_cast<double>(bits >> 11) * 0x1p-53;  // [0, 1)
  if (params.top_k == 0 && params.top_p >= 1.0 && params.min_p <= 0) {
    return static_cast<int32_t>(draw(weights, u));
  }
  Nucleus(logits, max, scale, scratch).keep(params);
  auto& kept = scratch.candidates;
  std::sort(kept.begin(), kept.end(),
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  scratch.kept_weights.clear();
  for (const Candidate& c : kept) scratch.kept_weights.push_back(weights[c.token]);
  return kept[draw(scratch.kept_weights, u)].token;
}

}  // namespace comet::engine
