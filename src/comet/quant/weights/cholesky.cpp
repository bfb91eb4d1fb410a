#include "comet/quant/weights/cholesky.h"

#include <algorithm>
#include <cmath>

namespace comet::quant {
namespace {

constexpr int64_t kTile = 64;

/// Factors the diagonal tile [begin, end) in place.
bool factor_diagonal(SymmetricMatrix& a, int64_t begin, int64_t end) {
  for (int64_t j = begin; j < end; ++j) {
    double pivot = a.at(j, j);
    for (int64_t p = begin; p < j; ++p) pivot -= a.at(j, p) * a.at(j, p);
    if (!(pivot > 0.0) || !std::isfinite(pivot)) return false;
    const double root = std::sqrt(pivot);
    a.at(j, j) = root;
    for (int64_t i = j + 1; i < end; ++i) {
      double sum = a.at(i, j);
      for (int64_t p = begin; p < j; ++p) sum -= a.at(i, p) * a.at(j, p);
      a.at(i, j) = sum / root;
    }
  }
  return true;
}

/// Row i below the diagonal tile: solves L_tile · x = row.
void solve_row(SymmetricMatrix& a, int64_t i, int64_t begin, int64_t end) {
  for (int64_t j = begin; j < end; ++j) {
    double sum = a.at(i, j);
    for (int64_t p = begin; p < j; ++p) sum -= a.at(i, p) * a.at(j, p);
    a.at(i, j) = sum / a.at(j, j);
  }
}

/// Rows [row, row_end) of the trailing triangle −= panel · panelᵀ. `panel_t` [end − begin, n − end]
/// is the panel transposed.
void update_rows(SymmetricMatrix& a, const std::vector<double>& panel_t, int64_t row,
                 int64_t row_end, int64_t begin, int64_t end) {
  const int64_t width = a.n - end;
  for (int64_t i = row; i < row_end; ++i) {
    double* target = &a.at(i, end);
    const int64_t count = i - end + 1;  // up to the diagonal
    for (int64_t p = begin; p < end; ++p) {
      const double factor = a.at(i, p);
      const double* source = panel_t.data() + (p - begin) * width;
      for (int64_t j = 0; j < count; ++j) target[j] -= factor * source[j];
    }
  }
}

}  // namespace

bool cholesky(ThreadPool& pool, SymmetricMatrix& a) {
  std::vector<double> panel_t;
  for (int64_t begin = 0; begin < a.n; begin += kTile) {
    const int64_t end = std::min(begin + kTile, a.n);
    if (!factor_diagonal(a, begin, end)) return false;
    const int64_t width = a.n - end;
    if (width == 0) break;
    panel_t.resize((end - begin) * width);
    constexpr int64_t kRowsPerTask = 16;
    const int64_t num_tasks = (width + kRowsPerTask - 1) / kRowsPerTask;
    pool.parallel_for(num_tasks, [&](int64_t task_idx, int) {
      const int64_t first = end + task_idx * kRowsPerTask;
      for (int64_t i = first; i < std::min(first + kRowsPerTask, a.n); ++i) {
        solve_row(a, i, begin, end);
        for (int64_t p = begin; p < end; ++p) {
          panel_t[(p - begin) * width + (i - end)] = a.at(i, p);
        }
      }
    });
    pool.parallel_for(num_tasks, [&](int64_t task_idx, int) {
      const int64_t first = end + task_idx * kRowsPerTask;
      update_rows(a, panel_t, first, std::min(first + kRowsPerTask, a.n), begin, end);
    });
  }
  return true;
}

}  // namespace comet::quant
