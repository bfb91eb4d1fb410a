#include "comet/nn/linear.h"

#include "comet/formats/schemes/bind_linear.h"
#include "comet/ops/rms_norm/rms_norm.h"
#include "comet/ops/silu_mul/silu_mul.h"

namespace comet::nn {

Result<Linear> Linear::load(const formats::LinearSpec& spec, const formats::WeightFormat& format,
                            const formats::FormatConfig* config,
                            const formats::TensorSource& tensors, const Caps& caps) {
  auto weight = formats::bind_linear(spec, format, config, tensors);
  if (!weight) return weight.error();
  Linear linear;
  linear.weight_ = *std::move(weight);
  if (const Status planned = formats::plan_linear(linear.weight_, caps); !planned) {
    return planned.error();
  }
  return linear;
}

Tensor Linear::operator()(Context& ctx, View<const float, 2> x) const {
  if (observer_ != nullptr) observer_->on_input(*this, x);
  return multiply(ctx, weight_.format->input_from_rows(ctx, weight_, x));
}

Tensor Linear::operator()(Context& ctx, const formats::NormInput& x) const {
  if (observer_ == nullptr) {
    return multiply(ctx, weight_.format->input_from_norm(ctx, weight_, x));
  }
  const Tensor rows = ctx.arena.alloc(DType::kF32, {x.x.size(0), x.x.size(1)});
  rms_norm(ctx, rows.view<float, 2>(), x.x, x.weight, x.eps);
  return (*this)(ctx, rows.view<const float, 2>());
}

Tensor Linear::operator()(Context& ctx, const formats::SiluMulInput& x) const {
  if (observer_ == nullptr) {
    return multiply(ctx, weight_.format->input_from_silu_mul(ctx, weight_, x));
  }
  const Tensor rows = ctx.arena.alloc(DType::kF32, {x.gate.size(0), x.gate.size(1)});
  silu_mul(ctx, rows.view<float, 2>(), x.gate, x.up);
  return (*this)(ctx, rows.view<const float, 2>());
}

Tensor Linear::multiply(Context& ctx, const formats::Activation& x) const {
  Tensor out = ctx.arena.alloc(DType::kF32, {x.rows, weight_.spec.n()});
  weight_.kernel->run(ctx, weight_, x, out.view<float, 2>());
  return out;
}

}  // namespace comet::nn
