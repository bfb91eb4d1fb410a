#include "comet/ops/hadamard/hadamard.h"

#include <bit>

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void hadamard(Context& ctx, View<float, 3> x) {
  const int64_t n = x.size(2);
  COMET_CHECK(n > 0 && std::has_single_bit(static_cast<uint64_t>(n)) && x.strides[2] == 1,
              "Hadamard transform of {} points, stride {}", n, x.strides[2]);
  // An addition a stage and value: about as much work as four plain elements.
  parallel_rows(ctx, x.size(0), 4 * x.size(1) * n, [&](int64_t token_idx) {
    for (int64_t h = 0; h < x.size(1); ++h)
      ctx.ops.hadamard(x.row(token_idx) + h * x.strides[1], n);
  });
}

}  // namespace comet
