#include "comet/ops/set_zero/set_zero.h"

#include <algorithm>

#include "comet/ops/op_table.h"

namespace comet {

void set_zero(Context& ctx, View<float, 1> x) {
  COMET_CHECK(x.strides[0] == 1 || x.size(0) <= 1, "elements lie {} apart", x.strides[0]);
  COMET_CHECK(ctx.ops.set_zero != nullptr, "set_zero has no kernel on this device");
  ctx.ops.set_zero(ctx, x);
}

void set_zero_cpu(Context& /*ctx*/, View<float, 1> x) { std::fill_n(x.data, x.size(0), 0.0F); }

}  // namespace comet
