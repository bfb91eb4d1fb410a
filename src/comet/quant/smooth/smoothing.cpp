#include "comet/quant/smooth/smoothing.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "comet/base/check.h"
#include "comet/quant/fmpq/activation_rows.h"
#include "comet/quant/matrix_product.h"

namespace comet::quant {
namespace {

constexpr int64_t kMaxTokens = 256;
constexpr int64_t kMaxOutputs = 1024;
constexpr float kA8 = 127.0F;
constexpr int kFirstPercent = 20;
constexpr int kLastPercent = 100;
constexpr int kStepPercent = 5;

/// Evenly spaced rows, at most `max_rows`.
Matrix sample_rows(const Matrix& from, int64_t max_rows) {
  const int64_t count = std::min(max_rows, from.rows);
  Matrix to(count, from.cols);
  for (int64_t i = 0; i < count; ++i) {
    std::copy_n(from.row(i * from.rows / count), from.cols, to.row(i));
  }
  return to;
}

/// As sample_rows; `part_of` becomes the part of every row that was taken.
Matrix sample_outputs(const SmoothingProblem& problem, std::vector<size_t>& part_of) {
  const Matrix& weight = problem.weight;
  const int64_t count = std::min(kMaxOutputs, weight.rows);
  size_t part = 0;
  int64_t part_end = problem.part_rows[0];
  for (int64_t i = 0; i < count; ++i) {
    while (i * weight.rows / count >= part_end) part_end += problem.part_rows[++part];
    part_of.push_back(part);
  }
  return sample_rows(weight, kMaxOutputs);
}

/// `m` with every column times its factor (or its inverse), each row rounded to 8 bits.
Matrix rounded(ThreadPool& pool, const Matrix& m, std::span<const float> factors, bool inverse) {
  Matrix out(m.rows, m.cols);
  pool.parallel_for(m.rows, [&](int64_t i, int) {
    std::vector<float> scaled(m.row(i), m.row(i) + m.cols);
    for (int64_t c = 0; c < m.cols; ++c) {
      scaled[c] = inverse ? scaled[c] / factors[c] : scaled[c] * factors[c];
    }
    quantize_span(scaled.data(), out.row(i), m.cols, 1.0F, kA8);
  });
  return out;
}

/// Σ over parts of Σ (got − want)² / Σ want², columns belonging to parts.
double relative_error(const Matrix& got, const Matrix& want, std::span<const size_t> part_of) {
  std::vector<double> errors(part_of.back() + 1, 0.0);
  std::vector<double> signals(errors.size(), 0.0);
  for (int64_t t = 0; t < want.rows; ++t) {
    for (int64_t n = 0; n < want.cols; ++n) {
      const double y = want.row(t)[n];
      const double difference = got.row(t)[n] - y;
      errors[part_of[n]] += difference * difference;
      signals[part_of[n]] += y * y;
    }
  }
  double total = 0.0;
  for (size_t i = 0; i < errors.size(); ++i) {
    if (signals[i] > 0.0) total += errors[i] / signals[i];
  }
  return total;
}

}  // namespace

std::vector<float> column_absmax(const Matrix& weight) {
  std::vector<float> largest(weight.cols, 0.0F);
  for (int64_t n = 0; n < weight.rows; ++n) {
    const float* w = weight.row(n);
    for (int64_t c = 0; c < weight.cols; ++c) largest[c] = std::max(largest[c], std::fabs(w[c]));
  }
  return largest;
}

std::vector<float> smoothing_factors(std::span<const float> absmax,
                                     std::span<const float> column_absmax, double strength) {
  COMET_CHECK(absmax.size() == column_absmax.size(), "{} and {} channels", absmax.size(),
              column_absmax.size());
  constexpr double kMostFactor = 0x1p16;
  float least_column = std::numeric_limits<float>::infinity();
  for (const float w : column_absmax) {
    if (w > 0.0F) least_column = std::min(least_column, w);
  }
  std::vector<float> factors(absmax.size(), 1.0F);
  if (!std::isfinite(least_column)) return factors;
  for (size_t c = 0; c < factors.size(); ++c) {
    if (!(absmax[c] > 0.0F)) continue;
    const double a = absmax[c];
    const double w = std::max(column_absmax[c], least_column);
    const double s = std::pow(a, strength) / std::pow(w, 1.0 - strength);
    factors[c] = static_cast<float>(std::clamp(s, 1.0 / kMostFactor, kMostFactor));
  }
  return factors;
}

std::optional<double> search_smoothing(Context& ctx, const SmoothingProblem& problem) {
  if (problem.x.rows == 0) return std::nullopt;
  const Matrix x = sample_rows(problem.x, kMaxTokens);
  std::vector<size_t> part_of;
  const Matrix weight = sample_outputs(problem, part_of);
  const Matrix want = matrix_product(ctx, x, weight);
  const auto error_of = [&](std::span<const float> factors) {
    const Matrix coded_x = rounded(ctx.pool, x, factors, true);
    const Matrix coded_weight = rounded(ctx.pool, weight, factors, false);
    return relative_error(matrix_product(ctx, coded_x, coded_weight), want, part_of);
  };
  std::optional<double> best;
  double least = error_of(std::vector<float>(x.cols, 1.0F));
  for (int percent = kFirstPercent; percent <= kLastPercent; percent += kStepPercent) {
    const double strength = percent / 100.0;
    const double error = error_of(problem.factors(strength));
    if (error < least) {
      least = error;
      best = strength;
    }
  }
  return best;
}

}  // namespace comet::quant
