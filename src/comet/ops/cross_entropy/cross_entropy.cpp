#include "comet/ops/cross_entropy/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void cross_entropy(Context& ctx, View<float, 1> losses, Rows dlogits, ConstRows logits,
                   View<const float, 2> targets, float scale) {
  const int64_t rows = logits.num_rows;
  const int64_t classes = logits.num_columns;
  COMET_CHECK(losses.size(0) == rows && dlogits.num_rows == rows &&
                  dlogits.num_columns == classes && targets.size(0) == rows &&
                  targets.size(1) == classes && targets.strides[1] == 1 && classes > 0,
              "{} losses, gradients [{}, {}], logits [{}, {}], targets [{}, {}]", losses.size(0),
              dlogits.num_rows, dlogits.num_columns, rows, classes, targets.size(0),
              targets.size(1));
  COMET_CHECK(ctx.ops.cross_entropy != nullptr, "cross_entropy has no kernel on this device");
  ctx.ops.cross_entropy(ctx, losses, dlogits, logits, targets, scale);
}

void cross_entropy_cpu(Context& ctx, View<float, 1> losses, Rows dlogits_rows,
                       ConstRows logits_rows, View<const float, 2> targets, float scale) {
  const View<float, 2> dlogits = dlogits_rows.f32();
  const View<const float, 2> logits = logits_rows.f32();
  const int64_t classes = logits.size(1);
  parallel_rows(ctx, logits.size(0), classes * 16, [&](int64_t i) {  // exp costs about as much
    const float* row = logits.row(i);
    const float* target = targets.row(i);
    const float largest = *std::max_element(row, row + classes);
    double sum = 0;
    double weight = 0;
    double dot = 0;
    for (int64_t c = 0; c < classes; ++c) {
      sum += std::exp(double{row[c]} - double{largest});
      weight += double{target[c]};
      dot += double{target[c]} * (double{row[c]} - double{largest});
    }
    losses.data[i] = static_cast<float>(weight * std::log(sum) - dot);
    for (int64_t c = 0; c < classes; ++c) {
      const double softmax = std::exp(double{row[c]} - double{largest}) / sum;
      dlogits.row(i)[c] =
          static_cast<float>(double{scale} * (weight * softmax - double{target[c]}));
    }
  });
}

}  // namespace comet
