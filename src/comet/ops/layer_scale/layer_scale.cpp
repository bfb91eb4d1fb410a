#include "comet/ops/layer_scale/layer_scale.h"

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"
#include "comet/ops/row_sums.h"

namespace comet {
namespace {

void check(const ConstRows& a, const ConstRows& b, const LayerScale& scale) {
  COMET_CHECK(a.num_rows == b.num_rows && a.num_columns == b.num_columns &&
                  scale.gamma.size(0) == b.num_columns,
              "rows [{}, {}] and [{}, {}], gamma [{}]", a.num_rows, a.num_columns, b.num_rows,
              b.num_columns, scale.gamma.size(0));
  const int64_t num_images = scale.keep.size(0);
  COMET_CHECK(scale.keep.data == nullptr || (num_images > 0 && b.num_rows % num_images == 0),
              "{} rows of {} images", b.num_rows, num_images);
}

float keep_of(const LayerScale& scale, int64_t row, int64_t num_rows) {
  if (scale.keep.data == nullptr) return 1.0F;
  return scale.keep.data[row / (num_rows / scale.keep.size(0))];
}

}  // namespace

void layer_scale(Context& ctx, Rows out, ConstRows x, ConstRows branch, const LayerScale& scale) {
  check(x, branch, scale);
  check(out, branch, scale);
  COMET_CHECK(ctx.ops.layer_scale != nullptr, "layer_scale has no kernel on this device");
  ctx.ops.layer_scale(ctx, out, x, branch, scale);
}

void layer_scale_backward(Context& ctx, Rows dbranch, View<float, 1> dgamma, ConstRows dy,
                          ConstRows branch, const LayerScale& scale) {
  check(dy, branch, scale);
  check(dbranch, branch, scale);
  COMET_CHECK(dgamma.size(0) == branch.num_columns, "{} gradients of {} channels", dgamma.size(0),
              branch.num_columns);
  COMET_CHECK(ctx.ops.layer_scale_backward != nullptr,
              "layer_scale_backward has no kernel on this device");
  ctx.ops.layer_scale_backward(ctx, dbranch, dgamma, dy, branch, scale);
}

void layer_scale_cpu(Context& ctx, Rows out_rows, ConstRows x_rows, ConstRows branch_rows,
                     const LayerScale& scale) {
  const View<float, 2> out = out_rows.f32();
  const View<const float, 2> x = x_rows.f32();
  const View<const float, 2> branch = branch_rows.f32();
  const int64_t n = x.size(1);
  parallel_rows(ctx, x.size(0), n, [&](int64_t i) {
    const float keep = keep_of(scale, i, x.size(0));
    for (int64_t c = 0; c < n; ++c) {
      out.row(i)[c] = x.row(i)[c] + keep * (scale.gamma.data[c] * branch.row(i)[c]);
    }
  });
}

void layer_scale_backward_cpu(Context& ctx, Rows dbranch_rows, View<float, 1> dgamma,
                              ConstRows dy_rows, ConstRows branch_rows, const LayerScale& scale) {
  const View<float, 2> dbranch = dbranch_rows.f32();
  const View<const float, 2> dy = dy_rows.f32();
  const View<const float, 2> branch = branch_rows.f32();
  const int64_t n = dy.size(1);
  sum_over_rows<double>(
      ctx, dy.size(0), n,
      [&](int64_t begin, int64_t end, double* sums) {
        for (int64_t i = begin; i < end; ++i) {
          const float keep = keep_of(scale, i, dy.size(0));
          for (int64_t c = 0; c < n; ++c) {
            const float grad = keep * dy.row(i)[c];
            sums[c] += double{grad} * double{branch.row(i)[c]};
            dbranch.row(i)[c] = scale.gamma.data[c] * grad;
          }
        }
      },
      [&](int64_t c, double sum) { dgamma.data[c] = static_cast<float>(dgamma.data[c] + sum); });
}

}  // namespace comet
