// The kernel row of "dense" on the CPU for linears of image classifiers: weights packed at load,
// bias, GELU and addition in the product. Once prepared, tensors are the packed weight and the
// bias.
#include "comet/formats/dense/dense.h"
#include "comet/formats/float_input.h"
#include "comet/ops/packed_product/packed_product.h"

namespace comet::formats {
namespace {

bool supports_packed(const LinearWeight& weight, const Caps& caps) {
  return caps.kind == DeviceKind::kCpu && weight.spec.may_round && weight.spec.parts.size() == 1;
}

/// Below every other row that supports such a weight.
double packed_cost_us(const LinearWeight& /*weight*/, const Caps& /*caps*/) { return 0; }

PackedWeights packed_weights(const LinearWeight& weight) {
  COMET_CHECK(weight.tensors[0].shape().rank() == 1, "{} was not prepared", weight.spec.name);
  return {weight.tensors[0].data<float>(),
          weight.spec.has_bias ? weight.tensors[1].data<float>() : nullptr, weight.spec.n(),
          weight.spec.k};
}

PackedEnd packed_end(LinearEnd end) {
  if (end == LinearEnd::kGelu) return PackedEnd::kGelu;
  return end == LinearEnd::kAdd ? PackedEnd::kAdd : PackedEnd::kPlain;
}

void run_rows(Context& ctx, const LinearWeight& weight, ConstRows x, Rows out, LinearEnd end) {
  packed_product(ctx, out.f32(), x.f32(), packed_weights(weight), packed_end(end));
}

void run_with(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out,
              LinearEnd end) {
  run_rows(ctx, weight, x.parts[0], out, end);
}

void run(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  run_rows(ctx, weight, x.parts[0], out, LinearEnd::kPlain);
}

void run_mlp(Context& ctx, const LinearWeight& fc1, const LinearWeight& fc2, ConstRows x, Rows to) {
  packed_mlp(ctx, to.f32(), x.f32(), packed_weights(fc1), packed_weights(fc2));
}

Tensor as_floats(const Tensor& tensor) {
  if (tensor.dtype() == DType::kF32) return tensor;
  const Tensor out = allocate_tensor(host_allocator(), DType::kF32, tensor.shape());
  for (int64_t i = 0; i < tensor.num_elements(); ++i) {
    out.data<float>()[i] = float_element(tensor, i);
  }
  return out;
}

}  // namespace

LinearKernel dense_packed_kernel() {
  return {.name = "dense_packed",
          .supports = supports_packed,
          .cost_us = packed_cost_us,
          .run = run,
          .run_with = run_with,
          .run_rows = run_rows,
          .run_mlp = run_mlp};
}

Status dense_cpu_prepare(Context& ctx, LinearWeight& weight) {
  if (weight.kernel->run_rows != run_rows) return {};
  const Tensor panels =
      allocate_tensor(host_allocator(), DType::kF32,
                      {packed_weight_size(ctx.caps, weight.spec.n(), weight.spec.k)});
  pack_weights(ctx.caps, panels.data<float>(), as_floats(weight.tensors[0]).view<const float, 2>());
  weight.tensors[0] = panels;
  if (weight.spec.has_bias) weight.tensors[1] = as_floats(weight.tensors[1]);
  return {};
}

}  // namespace comet::formats
