#include "comet/quant/weights/cholesky.h"

#include <algorithm>
#include <cmath>

namespace comet::quant {
namespace {

constexpr int64_t kTile = 64;
constexpr int64_t kPanel = 256;  // columns in FP64 before the rest is updated at once
constexpr int64_t kRowsPerTask = 16;

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

/// Calls body(first, last) for ranges of the rows [begin, end).
template <typename Body>
void for_row_ranges(ThreadPool& pool, int64_t begin, int64_t end, Body body) {
  const int64_t num_tasks = (end - begin + kRowsPerTask - 1) / kRowsPerTask;
  pool.parallel_for(num_tasks, [&](int64_t task_idx, int) {
    const int64_t first = begin + task_idx * kRowsPerTask;
    body(first, std::min(first + kRowsPerTask, end));
  });
}

/// Columns [end, panel_end) of row i −= row's tile · tile's columnsᵀ, up to the diagonal. `tile_t`
/// [end − begin, panel_end − end] is the tile of the panel's rows transposed.
void update_row(SymmetricMatrix& a, const std::vector<double>& tile_t, int64_t i, int64_t begin,
                int64_t end, int64_t panel_end) {
  const int64_t width = panel_end - end;
  double* target = &a.at(i, end);
  const int64_t count = std::min(i - end + 1, width);
  for (int64_t p = begin; p < end; ++p) {
    const double factor = a.at(i, p);
    const double* source = tile_t.data() + (p - begin) * width;
    for (int64_t j = 0; j < count; ++j) target[j] -= factor * source[j];
  }
}

/// Columns [begin, end) of all rows, which no longer depend on earlier columns.
bool factor_panel(ThreadPool& pool, SymmetricMatrix& a, int64_t panel_begin, int64_t panel_end) {
  std::vector<double> tile_t;
  for (int64_t begin = panel_begin; begin < panel_end; begin += kTile) {
    const int64_t end = std::min(begin + kTile, panel_end);
    if (!factor_diagonal(a, begin, end)) return false;
    for_row_ranges(pool, end, a.n, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) solve_row(a, i, begin, end);
    });
    const int64_t width = panel_end - end;
    tile_t.resize((end - begin) * width);
    for (int64_t i = end; i < panel_end; ++i) {
      for (int64_t p = begin; p < end; ++p) tile_t[(p - begin) * width + i - end] = a.at(i, p);
    }
    for_row_ranges(pool, end, a.n, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) update_row(a, tile_t, i, begin, end, panel_end);
    });
  }
  return true;
}

}  // namespace

bool cholesky(Context& ctx, SymmetricMatrix& a) {
  for (int64_t begin = 0; begin < a.n; begin += kPanel) {
    const int64_t end = std::min(begin + kPanel, a.n);
    if (!factor_panel(ctx.pool, a, begin, end)) return false;
    if (end == a.n) break;
    Matrix panel(a.n - end, end - begin);
    ctx.pool.parallel_for(panel.rows, [&](int64_t i, int) {
      std::copy_n(&a.at(end + i, begin), panel.cols, panel.row(i));
    });
    add_gram(ctx, panel, -1.0, a, end);
  }
  return true;
}

}  // namespace comet::quant
