#include "comet/ops/rms_norm/rms_norm.h"

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void rms_norm(Context& ctx, View<float, 2> out, View<const float, 2> x, View<const float, 1> weight,
              float eps) {
  COMET_CHECK(out.sizes == x.sizes && weight.size(0) == x.size(1),
              "out [{}, {}], x [{}, {}], weight [{}]", out.size(0), out.size(1), x.size(0),
              x.size(1), weight.size(0));
  COMET_CHECK(x.strides[1] == 1 && out.strides[1] == 1 && weight.strides[0] == 1);
  ctx.ops.rms_norm(ctx, out, x, weight, eps);
}

void rms_norm(Context& ctx, View<float, 3> x, View<const float, 1> weight, float eps) {
  for (int64_t head = 0; head < x.size(1); ++head) {
    const View<float, 2> rows{
        x.data + head * x.strides[1], {x.size(0), x.size(2)}, {x.strides[0], x.strides[2]}};
    rms_norm(ctx, rows, View<const float, 2>{rows.data, rows.sizes, rows.strides}, weight, eps);
  }
}

void rms_norm_cpu(Context& ctx, View<float, 2> out, View<const float, 2> x,
                  View<const float, 1> weight, float eps) {
  const int64_t n = x.size(1);
  parallel_rows(ctx, x.size(0), n, [&](int64_t i) {
    ctx.ops.rms_norm_row(out.row(i), x.row(i), weight.data, n, eps);
  });
}

}  // namespace comet
