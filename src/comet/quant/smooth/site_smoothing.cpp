#include "comet/quant/smooth/site_smoothing.h"

#include <array>
#include <cmath>

#include "comet/quant/smooth/smoothing.h"

namespace comet::quant {
namespace {

float stored(float x, DType dtype) {
  if (dtype == DType::kBF16) return to_float(to_bfloat16(x));
  if (dtype == DType::kF16) return to_float(to_float16(x));
  return x;
}

/// Which norm stands before the site; none before o_in and down_in.
std::optional<size_t> norm_before(Site site) {
  if (site == Site::kQkvIn) return 0;
  if (site == Site::kGateUpIn) return 1;
  return std::nullopt;
}

/// The factors that turn the norm into one of its stored type: g / stored(g / s).
void keep_norm_type(const LayerWeights& layer, size_t norm_idx, std::vector<float>& factors) {
  const std::vector<float>& norm = layer.norms[norm_idx];
  for (size_t c = 0; c < factors.size(); ++c) {
    const float smoothed = stored(norm[c] / factors[c], layer.norm_dtypes[norm_idx]);
    factors[c] = norm[c] / smoothed;
    if (!std::isnormal(factors[c]) || !std::isnormal(smoothed)) factors[c] = 1.0F;
  }
}

/// Factors of site i as they would be folded.
std::vector<float> site_factors(const LayerStage& s, size_t i, double strength) {
  const std::vector<float> columns = column_absmax(s.layer.weights[i]);
  const std::vector<float>& absmax = s.stats[i].absmax;
  if (kSites[i] == Site::kOIn) {
    const std::vector<float> of_values = smoothing_factors(
        value_channel_max(s.layer, absmax), value_channel_max(s.layer, columns), strength);
    std::vector<float> factors(absmax.size());
    for (size_t c = 0; c < factors.size(); ++c) {
      factors[c] = of_values[value_channel(s.layer, static_cast<int64_t>(c))];
    }
    return factors;
  }
  std::vector<float> factors = smoothing_factors(absmax, columns, strength);
  if (const auto norm = norm_before(kSites[i])) keep_norm_type(s.layer, *norm, factors);
  return factors;
}

std::optional<double> strength_of(const LayerStage& s, size_t i) {
  if (s.options.smoothing == Smoothing::kFixed) return s.options.smoothing_strength;
  const SmoothingProblem problem{s.stats[i].kept_rows, s.layer.weights[i],
                                 s.layer.specs[i].part_rows,
                                 [&](double strength) { return site_factors(s, i, strength); }};
  return search_smoothing(s.backend.host, problem);
}

}  // namespace

void smooth_sites(LayerStage& s) {
  for (const Site site : {Site::kOIn, Site::kDownIn, Site::kQkvIn, Site::kGateUpIn}) {
    const auto i = static_cast<size_t>(site);
    s.smoothing[i] = strength_of(s, i);
    if (!s.smoothing[i]) continue;
    fold_site(s, i, site_factors(s, i, *s.smoothing[i]));
    const auto norm = norm_before(site);
    if (!norm) continue;
    // A reciprocal was multiplied: the last bit may be off.
    for (float& x : s.layer.norms[*norm]) x = stored(x, s.layer.norm_dtypes[*norm]);
  }
}

}  // namespace comet::quant
