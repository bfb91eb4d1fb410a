#include "comet/ops/gelu/gelu.h"

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void gelu(Context& ctx, Rows out, ConstRows x) {
  COMET_CHECK(out.num_rows == x.num_rows && out.num_columns == x.num_columns,
              "out [{}, {}], x [{}, {}]", out.num_rows, out.num_columns, x.num_rows, x.num_columns);
  COMET_CHECK(ctx.ops.gelu != nullptr, "gelu has no kernel on this device");
  ctx.ops.gelu(ctx, out, x);
}

void gelu_cpu(Context& ctx, Rows out_rows, ConstRows rows) {
  const View<float, 2> out = out_rows.f32();
  const View<const float, 2> x = rows.f32();
  const int64_t n = x.size(1);
  parallel_rows(ctx, x.size(0), n, [&](int64_t i) { ctx.ops.gelu_row(out.row(i), x.row(i), n); });
}

}  // namespace comet
