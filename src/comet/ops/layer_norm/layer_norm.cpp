#include "comet/ops/layer_norm/layer_norm.h"

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void layer_norm(Context& ctx, Rows out, ConstRows x, const LayerNormWeights& norm) {
  const int64_t n = x.num_columns;
  COMET_CHECK(out.num_rows == x.num_rows && out.num_columns == n && norm.weight.size(0) == n &&
                  norm.bias.size(0) == n,
              "out [{}, {}], x [{}, {}], weight [{}], bias [{}]", out.num_rows, out.num_columns,
              x.num_rows, n, norm.weight.size(0), norm.bias.size(0));
  COMET_CHECK(norm.weight.strides[0] == 1 && norm.bias.strides[0] == 1);
  COMET_CHECK(ctx.ops.layer_norm != nullptr, "layer_norm has no kernel on this device");
  ctx.ops.layer_norm(ctx, out, x, norm);
}

void layer_norm_cpu(Context& ctx, Rows out_rows, ConstRows rows, const LayerNormWeights& norm) {
  const View<float, 2> out = out_rows.f32();
  const View<const float, 2> x = rows.f32();
  const int64_t n = x.size(1);
  const LayerNormRow row{norm.weight.data, norm.bias.data, n, norm.eps};
  parallel_rows(ctx, x.size(0), n,
                [&](int64_t i) { ctx.ops.layer_norm_row(out.row(i), x.row(i), row); });
}

}  // namespace comet
