#include "comet/ops/gelu/gelu.h"

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void gelu(Context& ctx, View<float, 2> x) {
  COMET_CHECK(x.strides[1] == 1, "elements of a row lie {} apart", x.strides[1]);
  COMET_CHECK(ctx.ops.gelu != nullptr, "gelu has no kernel on this device");
  ctx.ops.gelu(ctx, x);
}

void gelu_cpu(Context& ctx, View<float, 2> x) {
  const int64_t n = x.size(1);
  parallel_rows(ctx, x.size(0), n, [&](int64_t i) { ctx.ops.gelu_row(x.row(i), n); });
}

}  // namespace comet
