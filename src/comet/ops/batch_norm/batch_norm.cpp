#include "comet/ops/batch_norm/batch_norm.h"

#include "comet/ops/op_table.h"

namespace comet {
namespace {

void check_same(const ConstRows& a, const ConstRows& b) {
  COMET_CHECK(a.num_rows == b.num_rows && a.num_columns == b.num_columns,
              "rows [{}, {}] and [{}, {}]", a.num_rows, a.num_columns, b.num_rows, b.num_columns);
}

void check_channels(const View<const float, 1>& values, int64_t channels) {
  COMET_CHECK(values.size(0) == channels && values.strides[0] == 1, "{} values for {} channels",
              values.size(0), channels);
}

void check_norm(const BatchMoments& moments, const BatchNormWeights& norm, int64_t channels) {
  check_channels(moments.mean, channels);
  check_channels(moments.inv_std, channels);
  check_channels(norm.weight, channels);
  check_channels(norm.bias, channels);
}

}  // namespace

void batch_moments(Context& ctx, const BatchMoments& moments, const RunningMoments& running,
                   ConstRows x, float eps) {
  const int64_t channels = moments.mean.size(0);
  COMET_CHECK(x.empty() || (x.num_rows >= 2 && x.num_columns == channels),
              "a batch norm over [{}, {}] with {} means", x.num_rows, x.num_columns, channels);
  check_channels(moments.inv_std, channels);
  check_channels(running.mean, channels);
  check_channels(running.variance, channels);
  COMET_CHECK(ctx.ops.batch_moments != nullptr, "batch_moments has no kernel on this device");
  ctx.ops.batch_moments(ctx, moments, running, x, eps);
}

void batch_norm(Context& ctx, Rows out, ConstRows x, const BatchMoments& moments,
                const BatchNormWeights& norm) {
  check_same(out, x);
  check_norm(moments, norm, x.num_columns);
  COMET_CHECK(ctx.ops.batch_norm != nullptr, "batch_norm has no kernel on this device");
  ctx.ops.batch_norm(ctx, out, x, moments, norm);
}

void batch_norm_backward(Context& ctx, Rows dx, const NormGrads& grads, ConstRows dy, ConstRows x,
                         const BatchMoments& moments, const BatchNormWeights& norm) {
  check_same(dx, x);
  check_same(dy, x);
  check_norm(moments, norm, x.num_columns);
  check_channels(grads.weight, x.num_columns);
  check_channels(grads.bias, x.num_columns);
  COMET_CHECK(ctx.ops.batch_norm_backward != nullptr,
              "batch_norm_backward has no kernel on this device");
  ctx.ops.batch_norm_backward(ctx, dx, grads, dy, x, moments, norm);
}

}  // namespace comet
