#include "comet/quant/fmpq/equalizer.h"

#include <algorithm>
#include <cmath>

#include "comet/base/check.h"

namespace comet::quant {
namespace {

constexpr int kMaxExponent = 16;  // keeps folded BF16 weights far from overflow and underflow

}  // namespace

float median(std::vector<float> values) {
  if (values.empty()) return 0.0F;
  const size_t middle = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + middle, values.end());
  const float upper = values[middle];
  if (values.size() % 2 == 1) return upper;
  const float lower = *std::max_element(values.begin(), values.begin() + middle);
  return 0.5F * (lower + upper);
}

std::vector<float> column_norms(const Matrix& weight) {
  std::vector<double> squares(weight.cols, 0.0);
  for (int64_t n = 0; n < weight.rows; ++n) {
    const float* w = weight.row(n);
    for (int64_t c = 0; c < weight.cols; ++c) squares[c] += static_cast<double>(w[c]) * w[c];
  }
  std::vector<float> norms(weight.cols);
  for (int64_t c = 0; c < weight.cols; ++c) norms[c] = static_cast<float>(std::sqrt(squares[c]));
  return norms;
}

std::vector<int> equalizer_exponents(std::span<const float> p999,
                                     std::span<const float> column_norm) {
  COMET_CHECK(p999.size() == column_norm.size(), "{} and {} channels", p999.size(),
              column_norm.size());
  std::vector<int> exponents(p999.size(), 0);
  const float median_p = median({p999.begin(), p999.end()});
  const float median_norm = median({column_norm.begin(), column_norm.end()});
  if (median_p <= 0.0F || median_norm <= 0.0F) return exponents;
  for (size_t c = 0; c < p999.size(); ++c) {
    // A zero column gives +inf here: then the activation alone decides.
    const float r = std::min(p999[c] / median_p, median_norm / column_norm[c]);
    if (r >= 2.0F) {
      exponents[c] = std::min(static_cast<int>(std::floor(std::log2(r) + 0.25F)), kMaxExponent);
    }
  }
  return exponents;
}

void scale_stats(SiteStats& stats, std::span<const int> exponents) {
  const auto k = static_cast<int64_t>(exponents.size());
  COMET_CHECK(k == static_cast<int64_t>(stats.p999.size()), "{} exponents for {} channels", k,
              stats.p999.size());
  for (int64_t c = 0; c < k; ++c) {
    if (exponents[c] == 0) continue;
    stats.absmax[c] = std::ldexp(stats.absmax[c], -exponents[c]);
    stats.p999[c] = std::ldexp(stats.p999[c], -exponents[c]);
    stats.sum_squares[c] = std::ldexp(stats.sum_squares[c], -2 * exponents[c]);
    for (int64_t t = 0; t < stats.kept_rows.rows; ++t) {
      float& x = stats.kept_rows.row(t)[c];
      x = std::ldexp(x, -exponents[c]);
    }
  }
}

}  // namespace comet::quant
