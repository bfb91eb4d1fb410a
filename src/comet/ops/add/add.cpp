#include "comet/ops/add/add.h"

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void add(Context& ctx, View<float, 2> x, View<const float, 2> y) {
  COMET_CHECK(x.sizes == y.sizes, "x [{}, {}], y [{}, {}]", x.size(0), x.size(1), y.size(0),
              y.size(1));
  COMET_CHECK(x.strides[1] == 1 && y.strides[1] == 1);
  ctx.ops.add(ctx, x, y);
}

void add_cpu(Context& ctx, View<float, 2> x, View<const float, 2> y) {
  const int64_t n = x.size(1);
  parallel_rows(ctx, x.size(0), n, [&](int64_t i) { ctx.ops.add_row(x.row(i), y.row(i), n); });
}

}  // namespace comet
