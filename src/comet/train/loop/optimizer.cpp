#include "comet/train/loop/optimizer.h"

#include <algorithm>
#include <cmath>

#include "comet/ops/adamw/adamw.h"
#include "comet/ops/set_zero/set_zero.h"

namespace comet::train {
namespace {

Tensor device_copy(Context& ctx, const std::vector<float>& values) {
  Tensor host =
      allocate_tensor(host_allocator(), DType::kF32, Shape{static_cast<int64_t>(values.size())});
  std::copy(values.begin(), values.end(), host.data<float>());
  return copy_to_device(ctx, host);
}

Tensor zeros(Context& ctx, int64_t size) {
  return device_copy(ctx, std::vector<float>(static_cast<size_t>(size)));
}

std::vector<float> host_values(Context& ctx, const Tensor& x) {
  if (!x.defined()) return {};
  const Tensor host = copy_to_host(ctx, x);
  return {host.data<float>(), host.data<float>() + host.num_elements()};
}

/// to = from.
void copy(Context& ctx, const Tensor& to, const Tensor& from, const Tensor& always) {
  moving_average(ctx, to.view<float, 1>(), from.view<const float, 1>(), 0.0F,
                 always.view<const float, 1>());
}

}  // namespace

Optimizer::Optimizer(Context& ctx, const Recipe& recipe, nn::ParameterSet& set)
    : recipe_(recipe),
      set_(set),
      first_(zeros(ctx, set.values().num_elements())),
      second_(zeros(ctx, set.values().num_elements())),
      buffers_before_(zeros(ctx, set.buffer_values().num_elements())),
      squared_norm_(zeros(ctx, 1)),
      schedule_(zeros(ctx, 3)),
      finite_(zeros(ctx, 1)) {
  if (recipe.ema_decay > 0) {
    average_ = zeros(ctx, set.values().num_elements());
    average_buffers_ = zeros(ctx, set.buffer_values().num_elements());
  }
}

void Optimizer::begin_step(Context& ctx, double lr, int64_t num_updates) {
  const auto t = static_cast<double>(num_updates + 1);
  const std::vector<float> schedule{static_cast<float>(lr),
                                    static_cast<float>(1 - std::pow(recipe_.beta1, t)),
                                    static_cast<float>(1 - std::pow(recipe_.beta2, t))};
  write_to_device(ctx, schedule_, borrow(schedule, schedule_.shape()));
  set_zero(ctx, set_.grads().view<float, 1>());
  set_zero(ctx, buffers_before_.view<float, 1>());  // 0 · what is not finite would stay so
  copy(ctx, buffers_before_, set_.buffer_values(), finite_);
}

bool Optimizer::end_step(Context& ctx, int64_t num_updates) {
  squared_norm(ctx, squared_norm_.view<float, 1>(), set_.grads().view<const float, 1>());
  for (const bool decayed : {true, false}) update(ctx, decayed);
  grad_norm_ = std::sqrt(double{host_values(ctx, squared_norm_)[0]});
  if (!std::isfinite(grad_norm_)) {
    set_zero(ctx, set_.buffer_values().view<float, 1>());
    copy(ctx, set_.buffer_values(), buffers_before_, finite_);
    return false;
  }
  if (!average_.defined()) return true;
  // As timm's warm-up: the first averages forget quickly.
  const auto t = static_cast<double>(num_updates + 1);
  const double decay = std::min(recipe_.ema_decay, t / (t + 10));
  const auto guard = finite_.view<const float, 1>();
  moving_average(ctx, average_.view<float, 1>(), set_.values().view<const float, 1>(),
                 static_cast<float>(decay), guard);
  moving_average(ctx, average_buffers_.view<float, 1>(),
                 set_.buffer_values().view<const float, 1>(), static_cast<float>(decay), guard);
  return true;
}

void Optimizer::update(Context& ctx, bool decayed) {
  const int64_t begin = decayed ? 0 : set_.num_decayed();
  const int64_t end = decayed ? set_.num_decayed() : set_.values().num_elements();
  if (begin == end) return;
  const auto part = [&](const Tensor& x) { return x.slice(0, begin, end).view<float, 1>(); };
  AdamWParameters parameters{
      part(set_.values()), part(set_.grads()), part(first_), part(second_), {}};
  if (set_.shadow().defined()) {
    parameters.shadow = Rows(set_.shadow().slice(0, begin, end).reshape({1, end - begin}));
  }
  AdamWSettings settings;
  settings.beta1 = static_cast<float>(recipe_.beta1);
  settings.beta2 = static_cast<float>(recipe_.beta2);
  settings.eps = static_cast<float>(recipe_.eps);
  settings.weight_decay = decayed ? static_cast<float>(recipe_.weight_decay) : 0.0F;
  settings.max_grad_norm = static_cast<float>(recipe_.clip_grad);
  settings.schedule = schedule_.view<const float, 1>();
  settings.squared_norm = squared_norm_.view<const float, 1>();
  adamw(ctx, parameters, settings);
}

void Optimizer::swap_average(Context& ctx) {
  COMET_CHECK(has_average(), "no moving average of the weights");
  const std::vector<float> values = host_values(ctx, set_.values());
  const std::vector<float> buffers = host_values(ctx, set_.buffer_values());
  set_.set_values(ctx, host_values(ctx, average_));
  set_.set_buffers(ctx, host_values(ctx, average_buffers_));
  average_ = device_copy(ctx, values);
  average_buffers_ = device_copy(ctx, buffers);
}

void Optimizer::start_average(Context& ctx) {
  if (!has_average()) return;
  copy(ctx, average_, set_.values(), finite_);
  copy(ctx, average_buffers_, set_.buffer_values(), finite_);
}

OptimizerState Optimizer::state(Context& ctx) const {
  return {host_values(ctx, first_), host_values(ctx, second_), host_values(ctx, average_),
          host_values(ctx, average_buffers_)};
}

void Optimizer::set_state(Context& ctx, const OptimizerState& state) {
  const auto size = static_cast<size_t>(set_.values().num_elements());
  COMET_CHECK(state.first.size() == size && state.second.size() == size &&
                  state.average.size() == (has_average() ? size : 0),
              "{} and {} moments, {} averages of {} values", state.first.size(),
              state.second.size(), state.average.size(), size);
  first_ = device_copy(ctx, state.first);
  second_ = device_copy(ctx, state.second);
  if (!has_average()) return;
  average_ = device_copy(ctx, state.average);
  average_buffers_ = device_copy(ctx, state.average_buffers);
}

}  // namespace comet::train
