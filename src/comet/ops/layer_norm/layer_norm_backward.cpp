#include "comet/ops/layer_norm/layer_norm_backward.h"

#include <cmath>

#include "comet/ops/op_table.h"
#include "comet/ops/row_sums.h"

namespace comet {
namespace {

struct RowMoments {
  float mean;
  float inv_std;
};

RowMoments moments_of(const float* x, int64_t n, float eps) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double{x[i]};
  const double mean = sum / static_cast<double>(n);
  double squares = 0;
  for (int64_t i = 0; i < n; ++i) squares += (double{x[i]} - mean) * (double{x[i]} - mean);
  return {static_cast<float>(mean),
          static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(n) + double{eps}))};
}

/// With g = dy · weight and x̂ = (x − mean) · inv_std: dx = inv_std · (g − mean(g) − x̂ · mean(g·x̂)).
void backward_row(float* dx, const float* dy, const float* x, const LayerNormWeights& norm,
                  double* sums) {
  const int64_t n = norm.weight.size(0);
  const RowMoments moments = moments_of(x, n, norm.eps);
  double sum = 0;
  double dot = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double normed = double{x[i] - moments.mean} * double{moments.inv_std};
    const double grad = double{dy[i]} * double{norm.weight.data[i]};
    sum += grad;
    dot += grad * normed;
    sums[i] += double{dy[i]} * normed;
    sums[n + i] += double{dy[i]};
  }
  const auto mean_grad = static_cast<float>(sum / static_cast<double>(n));
  const auto mean_dot = static_cast<float>(dot / static_cast<double>(n));
  for (int64_t i = 0; i < n; ++i) {
    const float normed = (x[i] - moments.mean) * moments.inv_std;
    dx[i] = moments.inv_std * (dy[i] * norm.weight.data[i] - mean_grad - normed * mean_dot);
  }
}

}  // namespace

void layer_norm_backward(Context& ctx, Rows dx, const NormGrads& grads, ConstRows dy, ConstRows x,
                         const LayerNormWeights& norm) {
  const int64_t n = x.num_columns;
  COMET_CHECK(dx.num_rows == x.num_rows && dx.num_columns == n && dy.num_rows == x.num_rows &&
                  dy.num_columns == n,
              "dx [{}, {}], dy [{}, {}], x [{}, {}]", dx.num_rows, dx.num_columns, dy.num_rows,
              dy.num_columns, x.num_rows, n);
  for (const int64_t size :
       {norm.weight.size(0), norm.bias.size(0), grads.weight.size(0), grads.bias.size(0)}) {
    COMET_CHECK(size == n, "a weight, bias or gradient [{}] of a norm over {}", size, n);
  }
  COMET_CHECK(ctx.ops.layer_norm_backward != nullptr,
              "layer_norm_backward has no kernel on this device");
  ctx.ops.layer_norm_backward(ctx, dx, grads, dy, x, norm);
}

void layer_norm_backward_cpu(Context& ctx, Rows dx_rows, const NormGrads& grads, ConstRows dy_rows,
                             ConstRows x_rows, const LayerNormWeights& norm) {
  const View<float, 2> dx = dx_rows.f32();
  const View<const float, 2> dy = dy_rows.f32();
  const View<const float, 2> x = x_rows.f32();
  const int64_t n = x.size(1);
  sum_over_rows<double>(
      ctx, x.size(0), 2 * n,
      [&](int64_t begin, int64_t end, double* sums) {
        for (int64_t i = begin; i < end; ++i) {
          backward_row(dx.row(i), dy.row(i), x.row(i), norm, sums);
        }
      },
      [&](int64_t i, double sum) {
        float& grad = i < n ? grads.weight.data[i] : grads.bias.data[i - n];
        grad = static_cast<float>(grad + sum);
      });
}

}  // namespace comet
