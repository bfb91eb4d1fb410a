#include "comet/quant/layer/layer_stage.h"

#include <algorithm>
#include <map>

#include "comet/quant/fmpq/equalizer.h"
#include "comet/quant/layer/key_smoothing.h"
#include "comet/quant/smooth/site_smoothing.h"

namespace comet::quant {
namespace {

constexpr int64_t kMaxKeptRows = 1024;

/// Hands every site's rows to `handle(site, rows)` while the float layer runs.
class SiteObserver final : public nn::InputObserver {
 public:
  SiteObserver(models::LlamaLayer& layer, SiteHandler handle) : handle_(std::move(handle)) {
    const auto linears = linears_of(layer);
    for (size_t i = 0; i < kNumSites; ++i) {
      linears[i]->set_observer(this);
      site_of_[linears[i]] = i;
    }
  }
  void on_input(const nn::Linear& linear, ConstRows rows) override {
    if (status_) status_ = handle_(site_of_.at(&linear), rows);
  }
  [[nodiscard]] const Status& status() const { return status_; }

 private:
  SiteHandler handle_;
  std::map<const nn::Linear*, size_t> site_of_;
  Status status_;
};

Status collect_stats(LayerStage& s) {
  std::vector<SiteStatsAccumulator> accumulators;
  for (const Site site : kSites) {
    accumulators.emplace_back(s.layer.site_name(site), s.layer.spec(site).k, s.set.num_tokens(),
                              kMaxKeptRows);
  }
  if (s.keep_inputs) s.inputs.reset(s.backend, s.layer, s.set.num_tokens());
  const Status observed = observe_sites(s, [&](size_t i, ConstRows rows) {
    if (s.keep_inputs) s.inputs.append(i, rows);
    return accumulators[i].add(s.backend.host.pool, s.backend.download(rows).view());
  });
  if (!observed) return observed;
  for (size_t i = 0; i < kNumSites; ++i) s.stats[i] = accumulators[i].finish();
  return {};
}

/// Exponents of o_in: one for all query heads that read a V channel, from the largest activation
/// and the largest column among them.
std::vector<int> attention_exponents(const LayerWeights& layer, std::span<const float> p999,
                                     std::span<const float> norms) {
  const std::vector<int> v_exponents =
      equalizer_exponents(value_channel_max(layer, p999), value_channel_max(layer, norms));
  std::vector<int> exponents(p999.size());
  for (size_t c = 0; c < exponents.size(); ++c) {
    exponents[c] = v_exponents[value_channel(layer, static_cast<int64_t>(c))];
  }
  return exponents;
}

void equalize(LayerStage& s) {
  std::array<std::vector<int>, kNumSites> exponents;
  for (size_t i = 0; i < kNumSites; ++i) {  // all from the original weights
    const std::vector<float> norms = column_norms(s.layer.weights[i]);
    exponents[i] = kSites[i] == Site::kOIn ? attention_exponents(s.layer, s.stats[i].p999, norms)
                                           : equalizer_exponents(s.stats[i].p999, norms);
  }
  for (size_t i = 0; i < kNumSites; ++i) {
    fold_site(s, i, powers_of_two(exponents[i]));
    s.num_equalized[i] = std::count_if(exponents[i].begin(), exponents[i].end(),
                                       [](int exponent) { return exponent != 0; });
  }
}

}  // namespace

std::vector<float> value_channel_max(const LayerWeights& layer, std::span<const float> values) {
  std::vector<float> largest(layer.num_kv_heads * layer.head_dim, 0.0F);
  for (size_t c = 0; c < values.size(); ++c) {
    float& most = largest[value_channel(layer, static_cast<int64_t>(c))];
    most = std::max(most, values[c]);
  }
  return largest;
}

void fold_site(LayerStage& s, size_t site_idx, std::span<const float> scales) {
  fold_scales(s.layer, kSites[site_idx], scales);
  scale_stats(s.stats[site_idx], scales);
  s.inputs.scale(site_idx, scales);
}

Status observe_sites(LayerStage& s, const SiteHandler& handle) {
  auto bound = bind_float_layer(s.layer, s.config, s.backend.device);
  if (!bound) return bound.error();
  SiteObserver observer(*bound, handle);
  const LayerRun run{s.config, s.set, s.backend.widest_cache()};
  const Status ran = run_layer(s.backend, *bound, run, s.hidden, false);
  return ran ? observer.status() : ran;
}

Status fold_and_measure(LayerStage& s) {
  if (s.options.smooth_keys) {
    auto bound = bind_float_layer(s.layer, s.config, s.backend.device);
    if (!bound) return bound.error();
    fold_key_scales(s.layer, key_scales(s.backend, *bound, s.config, s.set, s.hidden));
  }
  if (const Status status = collect_stats(s); !status) return status;
  if (s.options.equalize) equalize(s);
  if (s.options.smoothing != Smoothing::kOff) smooth_sites(s);
  if (!s.options.rotate_values) return {};
  // Behind the equalizer: rotation would spread a large V channel over its whole head.
  fold_value_rotation(s.layer);
  return collect_stats(s);
}

}  // namespace comet::quant
