#include "comet/quant/weights/gptq.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "comet/base/check.h"

namespace comet::quant {
namespace {

using formats::kBlock;

constexpr int kMaxDampings = 4;
constexpr int64_t kLanes = 16;  // rows of the weight coded side by side

std::vector<int32_t> descending_diagonal(const SymmetricMatrix& h) {
  std::vector<int32_t> order(h.n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return h.at(a, a) > h.at(b, b); });
  return order;
}

/// Codes rows [first, first + count) of the weight, count ≤ kLanes.
void code_lanes(const Matrix& stored, const WeightGrid& grid, const FeedbackFactor& factor,
                int64_t first, int64_t count, std::span<int8_t> codes) {
  const int64_t k = stored.cols;
  // delta[i] holds w − q of the i-th coded column for every lane.
  std::vector<std::array<float, kLanes>> delta(k);
  for (int64_t i = 0; i < k; ++i) {
    std::array<float, kLanes> carried{};
    const float* u = factor.rows.row(i);
    for (int64_t j = 0; j < i; ++j) {
      for (int64_t lane = 0; lane < kLanes; ++lane) carried[lane] += u[j] * delta[j][lane];
    }
    const int64_t channel = factor.order[i];
    for (int64_t lane = 0; lane < count; ++lane) {
      const int64_t row = first + lane;
      const float w = stored.row(row)[channel];
      const Levels levels = grid.levels(row, channel / kBlock);
      const float code = nearest_code(levels, w + carried[lane]);
      codes[row * k + channel] = static_cast<int8_t>(code);
      delta[i][lane] = w - level_value(levels, code);
    }
  }
}

}  // namespace

Result<FeedbackFactor> factor_hessian(ThreadPool& pool, const SymmetricMatrix& hessian, double damp,
                                      const std::string& site) {
  const int64_t k = hessian.n;
  FeedbackFactor factor;
  factor.order = descending_diagonal(hessian);
  double mean = 0.0;
  for (int64_t i = 0; i < k; ++i) mean += hessian.at(i, i) / static_cast<double>(k);
  if (mean == 0.0) mean = 1.0;  // a site that is always zero: any codes do
  SymmetricMatrix lower;
  bool done = false;
  for (int attempt = 0; attempt < kMaxDampings && !done; ++attempt, damp *= 10.0) {
    // U·Uᵀ = H in coding order is L·Lᵀ of H with rows and columns reversed, read backwards.
    lower = SymmetricMatrix(k);
    for (int64_t i = 0; i < k; ++i) {
      const int64_t from = factor.order[k - 1 - i];
      for (int64_t j = 0; j <= i; ++j)
        lower.at(i, j) = hessian.entry(from, factor.order[k - 1 - j]);
      lower.at(i, i) += damp * mean;
    }
    done = cholesky(pool, lower);
  }
  if (!done) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: the Hessian of the calibration inputs is not positive definite even "
                      "with damping; calibrate on more text, raise --damp or use --weights clip",
                      site);
  }
  factor.rows = Matrix(k, k);
  pool.parallel_for(k, [&](int64_t i, int) {
    const double diagonal = lower.at(k - 1 - i, k - 1 - i);
    for (int64_t j = 0; j < i; ++j) {
      factor.rows.row(i)[j] = static_cast<float>(lower.at(k - 1 - j, k - 1 - i) / diagonal);
    }
  });
  return factor;
}

void code_with_feedback(ThreadPool& pool, const Matrix& stored, const WeightGrid& grid,
                        const FeedbackFactor& factor, std::span<int8_t> codes) {
  COMET_CHECK(static_cast<int64_t>(factor.order.size()) == stored.cols &&
                  static_cast<int64_t>(codes.size()) == stored.rows * stored.cols,
              "{} columns, factor of {}", stored.cols, factor.order.size());
  const int64_t num_tasks = (stored.rows + kLanes - 1) / kLanes;
  pool.parallel_for(num_tasks, [&](int64_t task_idx, int) {
    const int64_t first = task_idx * kLanes;
    code_lanes(stored, grid, factor, first, std::min(kLanes, stored.rows - first), codes);
  });
}

}  // namespace comet::quant
