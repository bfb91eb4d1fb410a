#include "comet/nn/training/parameters.h"

#include <algorithm>

#include "comet/nn/folding.h"
#include "comet/ops/op_table.h"

namespace comet::nn {
namespace {

constexpr int64_t kAlignElements = 64;  // 128 bytes of BF16: what products load quickly

Shape shape_in_layout(const Shape& stored, ParameterLayout layout) {
  switch (layout) {
    case ParameterLayout::kChannelsLast:
      return {stored[0], stored[1] * stored[2] * stored[3]};
    case ParameterLayout::kDepthwise:
      return {stored[2], stored[3], stored[0]};
    case ParameterLayout::kSame:
      break;
  }
  if (stored.rank() == 4) return {stored[0], stored[1]};  // a 1 × 1 convolution
  return stored;
}

/// [outer, channels, taps] → [outer, taps, channels], or back.
void transpose(const float* from, float* to, int64_t outer, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < outer; ++i) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < columns; ++column) {
        to[(i * columns + column) * rows + row] = from[(i * rows + row) * columns + column];
      }
    }
  }
}

struct Axes {
  int64_t outer, channels, taps;
};

Axes axes_of(const Parameter& parameter) {
  const Shape& stored = parameter.stored_shape;
  switch (parameter.layout) {
    case ParameterLayout::kChannelsLast:
      return {stored[0], stored[1], stored[2] * stored[3]};
    case ParameterLayout::kDepthwise:
      return {1, stored[0], stored[2] * stored[3]};
    case ParameterLayout::kSame:
      break;
  }
  return {1, 1, stored.num_elements()};
}

/// Lays parameters one behind the other from `begin` on; the end.
int64_t lay_out(std::vector<Parameter>& parameters, bool decayed, int64_t begin) {
  for (Parameter& parameter : parameters) {
    if ((parameter.stored_shape.rank() > 1) != decayed) continue;
    parameter.offset = begin;
    const int64_t end = begin + parameter.stored_shape.num_elements();
    begin = (end + kAlignElements - 1) / kAlignElements * kAlignElements;
  }
  return begin;
}

Tensor zeros(const Shape& shape) {
  Tensor tensor = allocate_tensor(host_allocator(), DType::kF32, shape);
  std::fill_n(tensor.data<float>(), tensor.num_elements(), 0.0F);
  return tensor;
}

Status load_into(const std::vector<Parameter>& parameters, const formats::TensorSource& tensors,
                 Tensor& flat) {
  for (const Parameter& parameter : parameters) {
    const auto stored = load_floats(parameter.name, parameter.stored_shape, tensors);
    if (!stored) return stored.error();
    const Axes axes = axes_of(parameter);
    transpose(stored->data(), flat.data<float>() + parameter.offset, axes.outer, axes.channels,
              axes.taps);
  }
  return {};
}

Tensor copy_of(std::span<const float> values, int64_t size) {
  COMET_CHECK(static_cast<int64_t>(values.size()) == size, "{} values of {}", values.size(), size);
  Tensor host = allocate_tensor(host_allocator(), DType::kF32, {size});
  std::copy(values.begin(), values.end(), host.data<float>());
  return host;
}

void append_stored(const std::vector<Parameter>& parameters, const Tensor& host,
                   NamedTensors& named) {
  for (const Parameter& parameter : parameters) {
    Tensor stored = allocate_tensor(host_allocator(), DType::kF32, parameter.stored_shape);
    const Axes axes = axes_of(parameter);
    transpose(host.data<float>() + parameter.offset, stored.data<float>(), axes.outer, axes.taps,
              axes.channels);
    named.emplace_back(parameter.name, std::move(stored));
  }
}

}  // namespace

size_t ParameterSet::add(const std::string& name, const Shape& stored_shape,
                         ParameterLayout layout) {
  COMET_CHECK(!values_.defined(), "{} is added after allocate()", name);
  parameters_.push_back({name, stored_shape, layout, shape_in_layout(stored_shape, layout), 0});
  return parameters_.size() - 1;
}

size_t ParameterSet::add_buffer(const std::string& name, const Shape& shape) {
  COMET_CHECK(!values_.defined(), "{} is added after allocate()", name);
  buffers_.push_back({name, shape, ParameterLayout::kSame, shape, 0});
  return buffers_.size() - 1;
}

void ParameterSet::allocate(Context& ctx) {
  num_decayed_ = lay_out(parameters_, true, 0);
  const int64_t size = lay_out(parameters_, false, num_decayed_);
  const int64_t buffer_size = lay_out(buffers_, false, 0);
  values_ = copy_to_device(ctx, zeros({size}));
  grads_ = copy_to_device(ctx, zeros({size}));
  buffer_values_ = copy_to_device(ctx, zeros({std::max<int64_t>(1, buffer_size)}));
  refresh_shadow(ctx);
}

int64_t ParameterSet::num_trained() const {
  int64_t count = 0;
  for (const Parameter& parameter : parameters_) count += parameter.stored_shape.num_elements();
  return count;
}

Tensor ParameterSet::part(const Tensor& flat, const Parameter& parameter) {
  COMET_CHECK(flat.defined(), "{} before allocate()", parameter.name);
  return flat.slice(0, parameter.offset, parameter.offset + parameter.shape.num_elements())
      .reshape(parameter.shape);
}

Status ParameterSet::load(Context& ctx, const formats::TensorSource& tensors) {
  Tensor values = zeros(values_.shape());
  if (const Status loaded = load_into(parameters_, tensors, values); !loaded) return loaded;
  Tensor buffers = zeros(buffer_values_.shape());
  if (const Status loaded = load_into(buffers_, tensors, buffers); !loaded) return loaded;
  write_to_device(ctx, values_, values);
  write_to_device(ctx, buffer_values_, buffers);
  refresh_shadow(ctx);
  return {};
}

void ParameterSet::set_values(Context& ctx, std::span<const float> values) {
  write_to_device(ctx, values_, copy_of(values, values_.num_elements()));
  refresh_shadow(ctx);
}

void ParameterSet::set_buffers(Context& ctx, std::span<const float> values) {
  write_to_device(ctx, buffer_values_, copy_of(values, buffer_values_.num_elements()));
}

NamedTensors ParameterSet::stored_tensors(Context& ctx, const Tensor& values) const {
  NamedTensors named;
  append_stored(parameters_, copy_to_host(ctx, values), named);
  append_stored(buffers_, copy_to_host(ctx, buffer_values_), named);
  std::sort(named.begin(), named.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  return named;
}

void ParameterSet::refresh_shadow(Context& ctx) {
  if (ctx.ops.product_dtype == DType::kF32) return;
  const Tensor host = copy_to_host(ctx, values_);
  Tensor rounded = allocate_tensor(host_allocator(), DType::kBF16, values_.shape());
  for (int64_t i = 0; i < host.num_elements(); ++i) {
    rounded.data<BFloat16>()[i] = to_bfloat16(host.data<float>()[i]);
  }
  if (shadow_.defined()) {
    write_to_device(ctx, shadow_, rounded);
  } else {
    shadow_ = copy_to_device(ctx, rounded);
  }
}

}  // namespace comet::nn
