#include "comet/ops/gather_rows/gather_rows.h"

#include <algorithm>

#include "comet/ops/op_table.h"

namespace comet {

void gather_rows(Context& ctx, View<float, 2> out, View<const float, 2> x, ConstRows delta,
                 std::span<const int32_t> row_idxs) {
  COMET_CHECK(out.size(0) == static_cast<int64_t>(row_idxs.size()) && out.size(1) == x.size(1),
              "out [{}, {}] of {} rows of {}", out.size(0), out.size(1), row_idxs.size(),
              x.size(1));
  COMET_CHECK(delta.empty() || (delta.num_rows == x.size(0) && delta.num_columns == x.size(1)),
              "delta [{}, {}] of x [{}, {}]", delta.num_rows, delta.num_columns, x.size(0),
              x.size(1));
  ctx.ops.gather_rows(ctx, out, x, delta, row_idxs);
}

void gather_rows_cpu(Context& ctx, View<float, 2> out, View<const float, 2> x, ConstRows delta,
                     std::span<const int32_t> row_idxs) {
  for (int64_t i = 0; i < out.size(0); ++i) {
    const int64_t row = row_idxs[i];
    COMET_CHECK(row >= 0 && row < x.size(0), "row {} of {}", row, x.size(0));
    std::copy_n(x.row(row), x.size(1), out.row(i));
    if (!delta.empty()) ctx.ops.add_row(out.row(i), delta.f32().row(row), x.size(1));
  }
}

}  // namespace comet
