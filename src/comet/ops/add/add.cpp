#include "comet/ops/add/add.h"

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void add(Context& ctx, View<float, 2> x, ConstRows y) {
  COMET_CHECK(x.size(0) == y.num_rows && x.size(1) == y.num_columns, "x [{}, {}], y [{}, {}]",
              x.size(0), x.size(1), y.num_rows, y.num_columns);
  COMET_CHECK(x.strides[1] == 1);
  ctx.ops.add(ctx, x, y);
}

void add_cpu(Context& ctx, View<float, 2> x, ConstRows y) {
  const int64_t n = x.size(1);
  const View<const float, 2> rows = y.f32();
  parallel_rows(ctx, x.size(0), n, [&](int64_t i) { ctx.ops.add_row(x.row(i), rows.row(i), n); });
}

}  // namespace comet
