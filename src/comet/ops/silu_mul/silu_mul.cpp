#include "comet/ops/silu_mul/silu_mul.h"

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void silu_mul(Context& ctx, View<float, 2> out, View<const float, 2> gate,
              View<const float, 2> up) {
  COMET_CHECK(out.sizes == gate.sizes && out.sizes == up.sizes,
              "out [{}, {}], gate [{}, {}], up [{}, {}]", out.size(0), out.size(1), gate.size(0),
              gate.size(1), up.size(0), up.size(1));
  COMET_CHECK(out.strides[1] == 1 && gate.strides[1] == 1 && up.strides[1] == 1);
  ctx.ops.silu_mul(ctx, out, gate, up);
}

void silu_mul_cpu(Context& ctx, View<float, 2> out, View<const float, 2> gate,
                  View<const float, 2> up) {
  const int64_t n = out.size(1);
  parallel_rows(ctx, out.size(0), n,
                [&](int64_t i) { ctx.ops.silu_mul_row(out.row(i), gate.row(i), up.row(i), n); });
}

}  // namespace comet
