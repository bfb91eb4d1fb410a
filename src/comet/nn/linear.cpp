#include "comet/nn/linear.h"

#include "comet/formats/schemes/bind_linear.h"
#include "comet/ops/add/add.h"
#include "comet/ops/gelu/gelu.h"
#include "comet/ops/op_table.h"

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

Status Linear::move_to_device(Context& ctx) {
  if (weight_.backend->prepare == nullptr) return {};
  return weight_.backend->prepare(ctx, weight_);
}

formats::Activation Linear::input(Context& ctx, ConstRows x) const {
  return observed(weight_.backend->input_from_rows(ctx, weight_, x));
}

formats::Activation Linear::input(Context& ctx, const formats::NormInput& x) const {
  return observed(weight_.backend->input_from_norm(ctx, weight_, x));
}

formats::Activation Linear::input(Context& ctx, const formats::SiluMulInput& x) const {
  return observed(weight_.backend->input_from_silu_mul(ctx, weight_, x));
}

formats::Activation Linear::observed(formats::Activation input) const {
  if (observer_ != nullptr) observer_->on_input(*this, input.parts[0]);
  return input;
}

Tensor Linear::operator()(Context& ctx, ConstRows x) const {
  return multiply(ctx, input(ctx, x), ctx.ops.product_dtype);
}

Tensor Linear::operator()(Context& ctx, const formats::NormInput& x) const {
  return (*this)(ctx, x, ctx.ops.product_dtype);
}

Tensor Linear::operator()(Context& ctx, const formats::NormInput& x, DType dtype) const {
  return multiply(ctx, input(ctx, x), dtype);
}

void Linear::operator()(Context& ctx, ConstRows x, Rows out) const {
  weight_.kernel->run(ctx, weight_, input(ctx, x), out);
}

void Linear::operator()(Context& ctx, const formats::SiluMulInput& x, Rows out) const {
  weight_.kernel->run(ctx, weight_, input(ctx, x), out);
}

void Linear::operator()(Context& ctx, ConstRows x, Rows out, formats::LinearEnd end) const {
  using formats::LinearEnd;
  if (weight_.kernel->run_rows != nullptr && observer_ == nullptr) {
    return weight_.kernel->run_rows(ctx, weight_, x, out, end);
  }
  const ArenaScope scope(ctx.arena);
  const formats::Activation rows = input(ctx, x);
  if (weight_.kernel->run_with != nullptr && weight_.spec.may_round) {
    weight_.kernel->run_with(ctx, weight_, rows, out, end);
  } else if (end == LinearEnd::kAdd) {
    add(ctx, out.f32(), multiply(ctx, rows, DType::kF32));
  } else {
    weight_.kernel->run(ctx, weight_, rows, out);
    if (end == LinearEnd::kGelu) gelu(ctx, out, out);
  }
}

void Linear::run_mlp(Context& ctx, const Linear& fc1, const Linear& fc2, ConstRows x, Rows to) {
  const formats::LinearKernel& kernel = *fc1.weight_.kernel;
  const bool observed = fc1.observer_ != nullptr || fc2.observer_ != nullptr;
  if (kernel.run_mlp != nullptr && fc2.weight_.kernel == &kernel && !observed) {
    return kernel.run_mlp(ctx, fc1.weight_, fc2.weight_, x, to);
  }
  const ArenaScope scope(ctx.arena);
  const Tensor hidden = ctx.arena.alloc(ctx.ops.product_dtype, {x.num_rows, fc1.spec().n()});
  fc1(ctx, x, hidden, formats::LinearEnd::kGelu);
  fc2(ctx, hidden, to, formats::LinearEnd::kAdd);
}

Tensor Linear::multiply(Context& ctx, const formats::Activation& x, DType dtype) const {
  Tensor out = ctx.arena.alloc(dtype, {x.rows, weight_.spec.n()});
  weight_.kernel->run(ctx, weight_, x, out);
  return out;
}

}  // namespace comet::nn
