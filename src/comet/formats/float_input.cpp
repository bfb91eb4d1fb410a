#include "comet/formats/float_input.h"

#include <algorithm>

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet::formats {
namespace {

Activation rows_in_arena(Context& ctx, const LinearWeight& weight, int64_t rows, int64_t channels) {
  COMET_CHECK(channels == weight.spec.k, "{}: input has {} channels, not {}", weight.spec.name,
              channels, weight.spec.k);
  Activation activation;
  activation.rows = rows;
  activation.parts[0] = ctx.arena.alloc(DType::kF32, {rows, channels});
  return activation;
}

}  // namespace

Activation float_input_from_rows(Context& ctx, const LinearWeight& weight, ConstRows x) {
  const View<const float, 2> rows = x.f32();
  Activation activation = rows_in_arena(ctx, weight, x.num_rows, x.num_columns);
  float* out = activation.parts[0].data<float>();
  parallel_rows(ctx, x.num_rows, x.num_columns, [&](int64_t i) {
    std::copy_n(rows.row(i), x.num_columns, out + i * x.num_columns);
  });
  return activation;
}

Activation float_input_from_norm(Context& ctx, const LinearWeight& weight, const NormInput& input) {
  Activation activation = rows_in_arena(ctx, weight, input.x.size(0), input.x.size(1));
  norm_rows(ctx, activation.parts[0].view<float, 2>(), input);
  return activation;
}

Activation float_input_from_silu_mul(Context& ctx, const LinearWeight& weight,
                                     const SiluMulInput& input) {
  Activation activation = rows_in_arena(ctx, weight, input.gate.num_rows, input.gate.num_columns);
  ctx.ops.silu_mul(ctx, activation.parts[0].view<float, 2>(), input.gate.f32(), input.up.f32());
  return activation;
}

void norm_rows(Context& ctx, View<float, 2> out, const NormInput& input) {
  if (!input.delta.empty()) ctx.ops.add(ctx, input.x, input.delta);
  ctx.ops.rms_norm(ctx, out, input.x, input.weight, input.eps);
}

float float_element(const Tensor& tensor, int64_t i) {
  switch (tensor.dtype()) {
    case DType::kBF16:
      return to_float(tensor.data<BFloat16>()[i]);
    case DType::kF16:
      return to_float(tensor.data<Float16>()[i]);
    default:
      return tensor.data<float>()[i];
  }
}

std::vector<float> float_elements(std::span<const Tensor> tensors) {
  std::vector<float> values;
  for (const Tensor& tensor : tensors) {
    for (int64_t i = 0; i < tensor.num_elements(); ++i) values.push_back(float_element(tensor, i));
  }
  return values;
}

void add_bias(Context& ctx, const Tensor& bias, View<float, 2> out, int64_t column) {
  const ArenaScope scope(ctx.arena);
  const int64_t size = bias.size(0);
  auto* values = ctx.arena.alloc_array<float>(size);
  for (int64_t i = 0; i < size; ++i) values[i] = float_element(bias, i);
  parallel_rows(ctx, out.size(0), size, [&](int64_t token) {
    float* row = out.row(token) + column;
    for (int64_t i = 0; i < size; ++i) row[i] += values[i];
  });
}

}  // namespace comet::formats
