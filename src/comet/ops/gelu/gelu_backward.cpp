#include "comet/ops/gelu/gelu_backward.h"

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"
#include "comet/ops/training_rows.h"

namespace comet {

void gelu_backward(Context& ctx, Rows dx, ConstRows dy, ConstRows x) {
  COMET_CHECK(dx.num_rows == x.num_rows && dx.num_columns == x.num_columns &&
                  dy.num_rows == x.num_rows && dy.num_columns == x.num_columns,
              "dx [{}, {}], dy [{}, {}], x [{}, {}]", dx.num_rows, dx.num_columns, dy.num_rows,
              dy.num_columns, x.num_rows, x.num_columns);
  COMET_CHECK(ctx.ops.gelu_backward != nullptr, "gelu_backward has no kernel on this device");
  ctx.ops.gelu_backward(ctx, dx, dy, x);
}

void gelu_backward_cpu(Context& ctx, Rows dx_rows, ConstRows dy_rows, ConstRows x_rows) {
  const View<float, 2> dx = dx_rows.f32();
  const View<const float, 2> dy = dy_rows.f32();
  const View<const float, 2> x = x_rows.f32();
  const int64_t n = x.size(1);
  const auto& rows = training_rows(ctx.caps.cpu_isa);
  parallel_rows(ctx, x.size(0), n,
                [&](int64_t i) { rows.gelu_backward_row(dx.row(i), dy.row(i), x.row(i), n); });
}

}  // namespace comet
