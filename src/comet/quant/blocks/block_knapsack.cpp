#include "comet/quant/blocks/block_knapsack.h"

#include <algorithm>
#include <cmath>

#include "comet/base/check.h"

namespace comet::quant {
namespace {

/// From `blocks` INT8 blocks of a site to `blocks_after`, both corners of its hull.
struct Step {
  size_t site = 0;
  int64_t blocks = 0;
  int64_t blocks_after = 0;
  double saved_per_work = 0.0;
};

std::vector<double> falling(const std::vector<double>& losses) {
  std::vector<double> curve = losses;
  for (size_t n = 1; n < curve.size(); ++n) curve[n] = std::min(curve[n], curve[n - 1]);
  return curve;
}

/// Corners of the lower convex hull of (n, curve[n]), first and last point included.
std::vector<int64_t> hull_corners(const std::vector<double>& curve) {
  std::vector<int64_t> corners;
  for (int64_t n = 0; n < static_cast<int64_t>(curve.size()); ++n) {
    while (corners.size() >= 2) {
      const int64_t a = corners[corners.size() - 2];
      const int64_t b = corners.back();
      const double slope_ab = (curve[b] - curve[a]) / static_cast<double>(b - a);
      const double slope_bn = (curve[n] - curve[b]) / static_cast<double>(n - b);
      if (slope_ab < slope_bn) break;
      corners.pop_back();
    }
    corners.push_back(n);
  }
  return corners;
}

/// The steps of all sites, most saved per work first; those of one site stay in order.
std::vector<Step> steps_by_ratio(std::span<const BlockCurve> curves) {
  std::vector<Step> steps;
  for (size_t site = 0; site < curves.size(); ++site) {
    COMET_CHECK(!curves[site].losses.empty() && curves[site].block_work > 0, "site {}", site);
    const std::vector<double> curve = falling(curves[site].losses);
    const std::vector<int64_t> corners = hull_corners(curve);
    for (size_t i = 1; i < corners.size(); ++i) {
      const int64_t a = corners[i - 1];
      const int64_t b = corners[i];
      const auto work = static_cast<double>((b - a) * curves[site].block_work);
      steps.push_back({site, a, b, (curve[a] - curve[b]) / work});
    }
  }
  std::stable_sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) {
    return a.saved_per_work > b.saved_per_work;
  });
  return steps;
}

}  // namespace

std::vector<int64_t> choose_blocks(std::span<const BlockCurve> curves, int64_t budget) {
  std::vector<int64_t> chosen(curves.size(), 0);
  for (const Step& step : steps_by_ratio(curves)) {
    // A step whose forerunner was cut short starts where that one ended.
    const int64_t affordable = budget / curves[step.site].block_work;
    const int64_t taken = std::min(step.blocks_after - chosen[step.site], affordable);
    chosen[step.site] += taken;
    budget -= taken * curves[step.site].block_work;
  }
  return chosen;
}

}  // namespace comet::quant
