#include <algorithm>
#include <cmath>

#include "comet/ops/batch_norm/batch_norm.h"
#include "comet/ops/parallel_rows.h"
#include "comet/ops/row_sums.h"

namespace comet {

void batch_moments_cpu(Context& ctx, const BatchMoments& moments, const RunningMoments& running,
                       ConstRows rows, float eps) {
  if (rows.empty()) {
    for (int64_t c = 0; c < moments.mean.size(0); ++c) {
      moments.mean.data[c] = running.mean.data[c];
      moments.inv_std.data[c] =
          static_cast<float>(1.0 / std::sqrt(double{running.variance.data[c]} + double{eps}));
    }
    return;
  }
  const View<const float, 2> x = rows.f32();
  const int64_t channels = x.size(1);
  const auto count = static_cast<double>(x.size(0));
  const ArenaScope scope(ctx.arena);
  auto* means = reinterpret_cast<double*>(ctx.arena.alloc_array<int64_t>(channels));
  sum_over_rows<double>(
      ctx, x.size(0), channels,
      [&](int64_t begin, int64_t end, double* sums) {
        for (int64_t i = begin; i < end; ++i) {
          for (int64_t c = 0; c < channels; ++c) sums[c] += double{x.row(i)[c]};
        }
      },
      [&](int64_t c, double sum) { means[c] = sum / count; });
  const double momentum = running.momentum;
  sum_over_rows<double>(
      ctx, x.size(0), channels,
      [&](int64_t begin, int64_t end, double* sums) {
        for (int64_t i = begin; i < end; ++i) {
          for (int64_t c = 0; c < channels; ++c) {
            const double centred = double{x.row(i)[c]} - means[c];
            sums[c] += centred * centred;
          }
        }
      },
      [&](int64_t c, double sum) {
        moments.mean.data[c] = static_cast<float>(means[c]);
        moments.inv_std.data[c] = static_cast<float>(1.0 / std::sqrt(sum / count + double{eps}));
        float& mean = running.mean.data[c];
        float& variance = running.variance.data[c];
        mean = static_cast<float>((1 - momentum) * double{mean} + momentum * means[c]);
        variance =
            static_cast<float>((1 - momentum) * double{variance} + momentum * sum / (count - 1));
      });
}

void batch_norm_cpu(Context& ctx, Rows out_rows, ConstRows rows, const BatchMoments& moments,
                    const BatchNormWeights& norm) {
  const View<float, 2> out = out_rows.f32();
  const View<const float, 2> x = rows.f32();
  const int64_t channels = x.size(1);
  const ArenaScope scope(ctx.arena);
  auto* scale = ctx.arena.alloc_array<float>(channels);
  for (int64_t c = 0; c < channels; ++c) scale[c] = moments.inv_std.data[c] * norm.weight.data[c];
  parallel_rows(ctx, x.size(0), channels, [&](int64_t i) {
    const float* from = x.row(i);
    float* to = out.row(i);
    for (int64_t c = 0; c < channels; ++c) {
      to[c] = (from[c] - moments.mean.data[c]) * scale[c] + norm.bias.data[c];
    }
  });
}

/// With x̂ = (x − mean) · inv_std: dx = weight · inv_std · (dy − mean(dy) − x̂ · mean(dy · x̂)).
void batch_norm_backward_cpu(Context& ctx, Rows dx_rows, const NormGrads& grads, ConstRows dy_rows,
                             ConstRows x_rows, const BatchMoments& moments,
                             const BatchNormWeights& norm) {
  const View<float, 2> dx = dx_rows.f32();
  const View<const float, 2> dy = dy_rows.f32();
  const View<const float, 2> x = x_rows.f32();
  const int64_t channels = x.size(1);
  const auto count = static_cast<double>(x.size(0));
  const float* mean = moments.mean.data;
  const float* inv_std = moments.inv_std.data;
  const ArenaScope scope(ctx.arena);
  auto* means = ctx.arena.alloc_array<float>(2 * channels);  // of dy · x̂, of dy
  sum_over_rows<double>(
      ctx, x.size(0), 2 * channels,
      [&](int64_t begin, int64_t end, double* sums) {
        for (int64_t i = begin; i < end; ++i) {
          const float* grad = dy.row(i);
          const float* from = x.row(i);
          for (int64_t c = 0; c < channels; ++c) {
            sums[c] += double{grad[c]} * double{(from[c] - mean[c]) * inv_std[c]};
            sums[channels + c] += double{grad[c]};
          }
        }
      },
      [&](int64_t i, double sum) {
        means[i] = static_cast<float>(sum / count);
        float& grad = i < channels ? grads.weight.data[i] : grads.bias.data[i - channels];
        grad = static_cast<float>(grad + sum);
      });
  parallel_rows(ctx, x.size(0), channels, [&](int64_t i) {
    const float* grad = dy.row(i);
    const float* from = x.row(i);
    float* to = dx.row(i);
    for (int64_t c = 0; c < channels; ++c) {
      const float normed = (from[c] - mean[c]) * inv_std[c];
      to[c] =
          norm.weight.data[c] * inv_std[c] * (grad[c] - means[channels + c] - normed * means[c]);
    }
  });
}

}  // namespace comet
