#include "comet/ops/adamw/adamw.h"

#include <algorithm>
#include <cmath>

#include "comet/ops/op_table.h"
#include "comet/ops/row_sums.h"

namespace comet {
namespace {

constexpr int64_t kTaskSize = int64_t{1} << 14;

/// body(begin, end) over [0, n) on the pool.
template <typename Body>
void parallel_ranges(Context& ctx, int64_t n, const Body& body) {
  ctx.pool.parallel_for((n + kTaskSize - 1) / kTaskSize, [&](int64_t task_idx, int) {
    body(task_idx * kTaskSize, std::min(n, (task_idx + 1) * kTaskSize));
  });
}

}  // namespace

void adamw(Context& ctx, const AdamWParameters& parameters, const AdamWSettings& settings) {
  const int64_t n = parameters.value.size(0);
  COMET_CHECK(parameters.grad.size(0) == n && parameters.first.size(0) == n &&
                  parameters.second.size(0) == n,
              "{} parameters, {} gradients, {} and {} moments", n, parameters.grad.size(0),
              parameters.first.size(0), parameters.second.size(0));
  COMET_CHECK(settings.schedule.size(0) == 3 && settings.squared_norm.size(0) == 1 &&
              (parameters.shadow.empty() || parameters.shadow.num_columns == n));
  COMET_CHECK(ctx.ops.adamw != nullptr, "adamw has no kernel on this device");
  ctx.ops.adamw(ctx, parameters, settings);
}

void squared_norm(Context& ctx, View<float, 1> sum, View<const float, 1> x) {
  COMET_CHECK(sum.size(0) == 1 && x.strides[0] == 1);
  COMET_CHECK(ctx.ops.squared_norm != nullptr, "squared_norm has no kernel on this device");
  ctx.ops.squared_norm(ctx, sum, x);
}

void moving_average(Context& ctx, View<float, 1> average, View<const float, 1> x, float decay,
                    View<const float, 1> guard) {
  COMET_CHECK(average.size(0) == x.size(0) && guard.size(0) == 1, "averages [{}] of [{}]",
              average.size(0), x.size(0));
  COMET_CHECK(ctx.ops.moving_average != nullptr, "moving_average has no kernel on this device");
  ctx.ops.moving_average(ctx, average, x, decay, guard);
}

void adamw_cpu(Context& ctx, const AdamWParameters& parameters, const AdamWSettings& settings) {
  const float norm_squared = settings.squared_norm.data[0];
  if (!std::isfinite(norm_squared)) return;
  COMET_CHECK(parameters.shadow.empty(), "weights in BF16 on a CPU");
  const float norm = std::sqrt(norm_squared);
  const float clip = settings.max_grad_norm > 0 && norm > settings.max_grad_norm
                         ? settings.max_grad_norm / norm
                         : 1.0F;
  const float lr = settings.schedule.data[0];
  const float step = lr / settings.schedule.data[1];
  const float root2 = std::sqrt(settings.schedule.data[2]);
  const float keep = 1.0F - lr * settings.weight_decay;
  parallel_ranges(ctx, parameters.value.size(0), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float grad = clip * parameters.grad.data[i];
      float& first = parameters.first.data[i];
      float& second = parameters.second.data[i];
      first = first + (grad - first) * (1.0F - settings.beta1);
      second = settings.beta2 * second + (1.0F - settings.beta2) * grad * grad;
      float& value = parameters.value.data[i];
      value = keep * value - step * first / (std::sqrt(second) / root2 + settings.eps);
    }
  });
}

void squared_norm_cpu(Context& ctx, View<float, 1> sum, View<const float, 1> x) {
  sum_over_rows<double>(
      ctx, x.size(0), 1,
      [&](int64_t begin, int64_t end, double* partial) {
        double total = 0;
        for (int64_t i = begin; i < end; ++i) total += double{x.data[i]} * double{x.data[i]};
        *partial = total;
      },
      [&](int64_t, double total) { sum.data[0] = static_cast<float>(total); });
}

void moving_average_cpu(Context& ctx, View<float, 1> average, View<const float, 1> x, float decay,
                        View<const float, 1> guard) {
  if (!std::isfinite(guard.data[0])) return;
  parallel_ranges(ctx, x.size(0), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      average.data[i] = decay * average.data[i] + (1.0F - decay) * x.data[i];
    }
  });
}

}  // namespace comet
