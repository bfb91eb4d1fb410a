#include "comet/ops/depthwise_conv/depthwise_backward_rows.h"

#include <algorithm>

#include "comet/ops/depthwise_conv/depthwise_rows.h"
#include "comet/ops/op_table.h"
#include "comet/ops/row_sums.h"
#include "comet/ops/training_rows.h"

namespace comet {
namespace {

/// dx is the convolution of dy with the kernels turned by 180°, without a bias.
DepthwiseWeights turned_kernels(Context& ctx, const DepthwiseWeights& weights) {
  const int64_t taps = weights.weight.size(0) * weights.weight.size(1);
  const int64_t channels = weights.weight.size(2);
  auto* turned = ctx.arena.alloc_array<float>(taps * channels);
  auto* zeros = ctx.arena.alloc_array<float>(channels);
  for (int64_t tap = 0; tap < taps; ++tap) {
    std::copy_n(weights.weight.data + tap * channels, channels,
                turned + (taps - 1 - tap) * channels);
  }
  std::fill_n(zeros, channels, 0.0F);
  return {{turned, weights.weight.sizes}, {zeros, {channels}}};
}

void add_dx(Context& ctx, View<float, 4> dx, View<const float, 4> dy, const DepthwisePart& part) {
  const ArenaScope scope(ctx.arena);
  const DepthwiseWeights turned = turned_kernels(ctx, *part.weights);
  const int64_t width = dx.size(2);
  const int64_t row_elements = width * dx.size(3);
  const int64_t channels = turned.weight.size(2);
  auto* rows = ctx.arena.alloc_array<float>(ctx.pool.num_threads() * row_elements);
  ctx.pool.parallel_for(dx.size(0) * dx.size(1), [&](int64_t i, int thread_idx) {
    DepthwiseRow row = depthwise_row_of(dx, dy, turned, part.first_channel, i);
    float* sum = row.out;
    row.out = rows + thread_idx * row_elements + part.first_channel;
    ctx.ops.depthwise_row(row);
    for (int64_t px = 0; px < width; ++px) {
      ctx.ops.add_row(sum + px * dx.size(3), row.out + px * dx.size(3), channels);
    }
  });
}

void add_grads(Context& ctx, View<const float, 4> dy, View<const float, 4> x,
               const DepthwisePart& part) {
  const View<const float, 3>& weight = part.weights->weight;
  const int64_t num_weights = weight.size(0) * weight.size(1) * weight.size(2);
  const auto& rows = training_rows(ctx.caps.cpu_isa);
  const auto body = [&](int64_t begin, int64_t end, float* partial) {
    for (int64_t i = begin; i < end; ++i) {
      DepthwiseGradRow row;
      row.dy = dy.data + i * dy.strides[1] + part.first_channel;
      row.x = x.data + i / x.size(1) * x.strides[0] + part.first_channel;
      row.dweight = partial;
      row.dbias = partial + num_weights;
      row.height = x.size(1);
      row.width = x.size(2);
      row.pixel_stride = x.strides[2];
      row.y = i % x.size(1);
      row.kernel_h = weight.size(0);
      row.kernel_w = weight.size(1);
      row.channels = weight.size(2);
      rows.depthwise_grad_row(row);
    }
  };
  const auto finish = [&](int64_t i, double sum) {
    float& grad =
        i < num_weights ? part.grads->weight.data[i] : part.grads->bias.data[i - num_weights];
    grad = static_cast<float>(grad + sum);
  };
  sum_over_rows<float>(ctx, x.size(0) * x.size(1), num_weights + weight.size(2), body, finish);
}

}  // namespace

void depthwise_parts_backward(Context& ctx, View<float, 4> dx, View<const float, 4> dy,
                              View<const float, 4> x, std::span<const DepthwisePart> parts) {
  for (const DepthwisePart& part : parts) {
    add_dx(ctx, dx, dy, part);
    add_grads(ctx, dy, x, part);
  }
}

}  // namespace comet
