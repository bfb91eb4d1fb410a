#include "comet/quant/blocks/site_candidates.h"

#include <algorithm>
#include <array>

#include "comet/quant/blocks/simulated_input.h"
#include "comet/quant/fmpq/permutation.h"
#include "comet/quant/matrix_product.h"

namespace comet::quant {
namespace {

constexpr int64_t kMaxRows = 256;
constexpr int64_t kMaxOutputs = 1024;
constexpr std::array kRatios{1.0F, 0.9F, 0.8F, 0.7F};

/// At most `max_rows` evenly spaced rows.
Matrix sample(const Matrix& from, int64_t max_rows) {
  const int64_t count = std::min(max_rows, from.rows);
  Matrix to(count, from.cols);
  for (int64_t i = 0; i < count; ++i) {
    std::copy_n(from.row(i * from.rows / count), from.cols, to.row(i));
  }
  return to;
}

double sum_of_squares(const Matrix& m) {
  double total = 0.0;
  for (const float x : m.values) total += static_cast<double>(x) * x;
  return total;
}

/// ‖(x̂ − x)·Wᵀ‖².
double output_error(Context& ctx, const formats::SiteLayout& layout, const Matrix& x,
                    const Matrix& weight) {
  Matrix error = simulated_rows(ctx.pool, layout, x.view());
  for (size_t i = 0; i < error.values.size(); ++i) error.values[i] -= x.values[i];
  return sum_of_squares(matrix_product(ctx, error, weight));
}

}  // namespace

std::vector<int64_t> candidate_counts(int64_t num_blocks) {
  std::vector<int64_t> counts;
  for (int64_t n = 0; n < num_blocks; n += n < 4 ? 1 : (n & (n - 1)) == 0 ? n / 2 : n / 3) {
    counts.push_back(n);
  }
  counts.push_back(num_blocks);
  return counts;
}

std::vector<SiteCandidate> site_candidates(LayerStage& s, size_t site_idx) {
  const Matrix x = sample(s.stats[site_idx].kept_rows, kMaxRows);
  const Matrix weight = sample(s.layer.weights[site_idx], kMaxOutputs);
  const double signal = sum_of_squares(matrix_product(s.backend.host, x, weight));
  const std::vector<float>& p999 = s.stats[site_idx].p999;
  const int64_t num_blocks = SiteShape{0, s.layer.specs[site_idx].k}.num_blocks();
  std::vector<SiteCandidate> candidates;
  for (const int64_t count : candidate_counts(num_blocks)) {
    SiteCandidate best;
    best.layout = make_site_layout(s.layer.site_name(kSites[site_idx]), p999, count,
                                   s.options.act_scale, s.options.sort_channels);
    best.relative_error = -1.0;
    const bool clipped = count < num_blocks && s.options.search_activation_clip;
    for (const float ratio : std::span(kRatios).first(clipped ? kRatios.size() : 1)) {
      formats::SiteLayout layout = best.layout;
      layout.clip = ratio;
      const double error = output_error(s.backend.host, layout, x, weight);
      const double relative = signal > 0.0 ? error / signal : 0.0;
      if (best.relative_error >= 0.0 && relative >= best.relative_error) continue;
      best.relative_error = relative;
      best.layout.clip = ratio;
    }
    candidates.push_back(std::move(best));
  }
  return candidates;
}

std::vector<double> interpolated(const std::vector<int64_t>& counts,
                                 const std::vector<double>& values) {
  COMET_CHECK(!counts.empty() && counts.size() == values.size() && counts.front() == 0,
              "{} counts, {} values", counts.size(), values.size());
  std::vector<double> all(counts.back() + 1, values.front());
  for (size_t j = 1; j < counts.size(); ++j) {
    const auto width = static_cast<double>(counts[j] - counts[j - 1]);
    for (int64_t n = counts[j - 1]; n <= counts[j]; ++n) {
      const double t = static_cast<double>(n - counts[j - 1]) / width;
      all[n] = values[j - 1] + t * (values[j] - values[j - 1]);
    }
  }
  return all;
}

}  // namespace comet::quant
