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

std::vector<float> powers_of_two(std::span<const int> exponents) {
  std::vector<float> powers(exponents.size());
  for (size_t c = 0; c < powers.size(); ++c) powers[c] = std::ldexp(1.0F, exponents[c]);
  return powers;
}

}  // namespace comet::quant
