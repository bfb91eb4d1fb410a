#include "comet/formats/float_input.h"

#include <algorithm>

#include "comet/ops/op_table.h"

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

Activation float_input_from_rows(Context& ctx, const LinearWeight& weight, View<const float, 2> x) {
  COMET_CHECK(x.strides[1] == 1, "{}: channels of a row lie {} apart", weight.spec.name,
              x.strides[1]);
  Activation activation = rows_in_arena(ctx, weight, x.size(0), x.size(1));
  float* out = activation.parts[0].data<float>();
  for (int64_t i = 0; i < x.size(0); ++i) {
    std::copy_n(x.row(i), x.size(1), out + i * x.size(1));
  }
  return activation;
}

Activation float_input_from_norm(Context& ctx, const LinearWeight& weight, const NormInput& input) {
  Activation activation = rows_in_arena(ctx, weight, input.x.size(0), input.x.size(1));
  ctx.ops.rms_norm(ctx, activation.parts[0].view<float, 2>(), input.x, input.weight, input.eps);
  return activation;
}

Activation float_input_from_silu_mul(Context& ctx, const LinearWeight& weight,
                                     const SiluMulInput& input) {
  Activation activation = rows_in_arena(ctx, weight, input.gate.size(0), input.gate.size(1));
  ctx.ops.silu_mul(ctx, activation.parts[0].view<float, 2>(), input.gate, input.up);
  return activation;
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

void add_bias(const Tensor& bias, View<float, 2> out, int64_t column) {
  for (int64_t token = 0; token < out.size(0); ++token) {
    float* row = out.row(token) + column;
    for (int64_t i = 0; i < bias.size(0); ++i) row[i] += float_element(bias, i);
  }
}

}  // namespace comet::formats
