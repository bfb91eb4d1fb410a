#include "comet/quant/weights/gptq.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "comet/base/check.h"
#include "comet/base/log.h"
#include "comet/quant/matrix_product.h"
#include "comet/quant/weights/cholesky.h"

namespace comet::quant {
namespace {

using formats::kBlock;

constexpr int kMaxDampings = 4;
constexpr int64_t kLanes = 16;          // rows of the weight coded side by side
constexpr int64_t kBlockColumns = 128;  // coded between two matrix products
constexpr int64_t kRowsPerStep = 1024;  // of the weight; bounds the memory for their errors

std::vector<int32_t> descending_diagonal(const SymmetricMatrix& h) {
  std::vector<int32_t> order(h.n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return h.at(a, a) > h.at(b, b); });
  return order;
}

/// Rows of the weight on their way: delta[i, j] is w − q of row first + i in the j-th coded column.
struct CodedRows {
  int64_t first;
  Matrix delta;
  std::span<int8_t> codes;  // of the whole weight
};

/// Σ_{j<begin} Δ_j·U_ji / U_ii for the columns i from `begin` on in coding order, a row each.
struct CarriedColumns {
  int64_t begin;
  View<const float, 2> sums;
};

/// Codes the carried columns of the rows from rows.first + lane_begin on, at most kLanes.
void code_lanes(const Matrix& stored, const WeightGrid& grid, const FeedbackFactor& factor,
                const CarriedColumns& carried, CodedRows& rows, int64_t lane_begin) {
  const int64_t k = stored.cols;
  const int64_t begin = carried.begin;
  const int64_t count = std::min(kLanes, rows.delta.rows - lane_begin);
  std::array<std::array<float, kLanes>, kBlockColumns> delta{};
  for (int64_t i = begin; i < begin + carried.sums.size(1); ++i) {
    std::array<float, kLanes> within{};
    const float* u = factor.rows.row(i) + begin;
    for (int64_t j = 0; j < i - begin; ++j) {
      for (int64_t lane = 0; lane < kLanes; ++lane) within[lane] += u[j] * delta[j][lane];
    }
    const int64_t channel = factor.order[i];
    for (int64_t lane = 0; lane < count; ++lane) {
      const int64_t row = rows.first + lane_begin + lane;
      const float w = stored.row(row)[channel];
      const Levels levels = grid.levels(row, channel / kBlock);
      const float before = carried.sums.row(lane_begin + lane)[i - begin];
      const float code = nearest_code(levels, w + before + within[lane]);
      rows.codes[row * k + channel] = static_cast<int8_t>(code);
      const float error = w - level_value(levels, code);
      delta[i - begin][lane] = error;
      rows.delta.row(lane_begin + lane)[i] = error;
    }
  }
}

/// Σ_{j<begin} Δ_j·U_ji / U_ii of every row for the columns [begin, begin + count), in the arena.
Tensor carried_into(Context& ctx, const FeedbackFactor& factor, const Matrix& delta, int64_t begin,
                    int64_t count) {
  if (begin == 0) {
    const Tensor none = ctx.arena.alloc(DType::kF32, {delta.rows, count});
    std::fill_n(none.data<float>(), none.num_elements(), 0.0F);
    return none;
  }
  Matrix block(count, begin);
  for (int64_t i = 0; i < count; ++i) {
    std::copy_n(factor.rows.row(begin + i), begin, block.row(i));
  }
  return product_in_arena(ctx, {delta.values.data(), {delta.rows, begin}, {delta.cols, 1}},
                          block.view());
}

}  // namespace

Result<FeedbackFactor> factor_hessian(Context& ctx, const SymmetricMatrix& hessian, double damp,
                                      const std::string& name) {
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
    done = cholesky(ctx, lower);
    if (!done && attempt + 1 < kMaxDampings) {
      log_warning("{}: the Hessian is not positive definite with damping {}; trying {}", name, damp,
                  damp * 10.0);
    }
  }
  if (!done) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: the Hessian of the calibration inputs is not positive definite even "
                      "with damping; calibrate on more text, raise --damp or use --weights clip",
                      name);
  }
  factor.rows = Matrix(k, k);
  ctx.pool.parallel_for(k, [&](int64_t i, int) {
    const double diagonal = lower.at(k - 1 - i, k - 1 - i);
    for (int64_t j = 0; j < i; ++j) {
      factor.rows.row(i)[j] = static_cast<float>(lower.at(k - 1 - j, k - 1 - i) / diagonal);
    }
  });
  return factor;
}

void code_with_feedback(Context& ctx, const Matrix& stored, const WeightGrid& grid,
                        const FeedbackFactor& factor, std::span<int8_t> codes) {
  const int64_t k = stored.cols;
  COMET_CHECK(static_cast<int64_t>(factor.order.size()) == k &&
                  static_cast<int64_t>(codes.size()) == stored.rows * k,
              "{} columns, factor of {}", k, factor.order.size());
  for (int64_t first = 0; first < stored.rows; first += kRowsPerStep) {
    CodedRows rows{first, Matrix(std::min(kRowsPerStep, stored.rows - first), k), codes};
    for (int64_t begin = 0; begin < k; begin += kBlockColumns) {
      const ArenaScope scope(ctx.arena);
      const int64_t count = std::min(kBlockColumns, k - begin);
      const Tensor sums = carried_into(ctx, factor, rows.delta, begin, count);
      const CarriedColumns carried{begin, sums.view<const float, 2>()};
      ctx.pool.parallel_for((rows.delta.rows + kLanes - 1) / kLanes, [&](int64_t task_idx, int) {
        code_lanes(stored, grid, factor, carried, rows, task_idx * kLanes);
      });
    }
  }
}

}  // namespace comet::quant
