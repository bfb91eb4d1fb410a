// Samples of w4a16 for the conformance suite: what Comet writes itself, and what other programs do.
#include <algorithm>
#include <numeric>

#include "comet/formats/schemes/compressed_tensors.h"
#include "support/linear_samples.h"

namespace comet::testing {
namespace {

using formats::LinearSpec;
using formats::QuantizedWeight;

struct W4a16Shape {
  std::vector<int64_t> part_rows{1};
  int64_t k = 128;
  DType scale_type = DType::kBF16;
  bool has_bias = false;
  int64_t group = 128;
  bool zeros = false;
  bool ordered = false;  // channels are assigned to groups at random
};

LinearSpec spec_of(const QuantizedWeight& weight) {
  return {weight.name,   weight.name.substr(0, weight.name.rfind('.') + 1),
          weight.parts,  weight.part_rows,
          weight.site.k, !weight.bias.empty()};
}

float as_stored(float scale, DType type) {
  if (type == DType::kBF16) return to_float(to_bfloat16(scale));
  return type == DType::kF16 ? to_float(to_float16(scale)) : scale;
}

QuantizedWeight random_weight(const W4a16Shape& shape) {
  Rng rng(static_cast<uint64_t>(shape.k + shape.group), shape.part_rows.size());
  QuantizedWeight w;
  w.name = "model.layers.0.self_attn.qkv_proj";
  w.part_rows = shape.part_rows;
  for (size_t i = 0; i < w.part_rows.size(); ++i) w.parts.push_back(fmt::format("p{}_proj", i));
  w.site.k = shape.k;
  w.site.k_padded = shape.k;
  w.site.scale = formats::ActScale::kA16;
  w.granularity = formats::Granularity::kGroup;
  w.scale_type = shape.scale_type;
  w.group_size = shape.group;
  for (int64_t i = 0; i < w.num_rows() * shape.k; ++i) {
    w.codes.push_back(static_cast<int8_t>(static_cast<int>(rng.next_below(16)) - 8));
  }
  for (int64_t i = 0; i < w.num_rows() * (shape.k / shape.group); ++i) {
    w.group_scale.push_back(as_stored(rng.next_uniform() * 0.1F, shape.scale_type));
    if (shape.zeros) {
      w.group_zero.push_back(static_cast<int8_t>(static_cast<int>(rng.next_below(16)) - 8));
    }
  }
  for (int64_t i = 0; shape.has_bias && i < w.num_rows(); ++i) w.bias.push_back(rng.next_normal());
  if (!shape.ordered) return w;
  w.site.perm.resize(static_cast<size_t>(shape.k));
  std::iota(w.site.perm.begin(), w.site.perm.end(), 0);
  for (size_t i = w.site.perm.size(); i > 1; --i) {
    std::swap(w.site.perm[i - 1], w.site.perm[rng.next_below(i)]);
  }
  for (int64_t g = 0; g < shape.k; g += shape.group) {  // within a group, the model's order
    std::sort(w.site.perm.begin() + g, w.site.perm.begin() + g + shape.group);
  }
  return w;
}

/// [rows, k] in the model's order of channels.
std::vector<double> model_values(const QuantizedWeight& w) {
  std::vector<double> values(static_cast<size_t>(w.num_rows() * w.site.k));
  for (int64_t row = 0; row < w.num_rows(); ++row) {
    for (int64_t i = 0; i < w.site.k; ++i) {
      const auto group = static_cast<size_t>(i / w.group_size * w.num_rows() + row);
      const int zero = w.group_zero.empty() ? 0 : w.group_zero[group];
      const int64_t channel = w.site.perm.empty() ? i : w.site.perm[static_cast<size_t>(i)];
      values[static_cast<size_t>(row * w.site.k + channel)] =
          (w.codes[static_cast<size_t>(row * w.site.k + i)] - zero) * double{w.group_scale[group]};
    }
  }
  return values;
}

LinearSample sample_of(const W4a16Shape& shape) {
  const QuantizedWeight weight = random_weight(shape);
  const formats::WeightFormat& format = **formats::find_weight_format("w4a16");
  Json arguments = formats::quantization_arguments(4, "int", "group", shape.group);
  arguments["symmetric"] = !shape.zeros;
  const auto config = *formats::read_compressed_tensors(
      formats::compressed_tensors_manifest("pack-quantized", arguments, nullptr), "config.json");
  TensorMap tensors;
  tensors.add(*format.pack(weight));
  LinearSample sample;
  sample.label = fmt::format("w4a16 {} n=[{}] k={} group={}{}{}{}", dtype_name(shape.scale_type),
                             fmt::join(shape.part_rows, ","), shape.k, shape.group,
                             shape.has_bias ? " bias" : "", shape.zeros ? " zeros" : "",
                             shape.ordered ? " ordered" : "");
  sample.weight = *format.bind(spec_of(weight), config.get(), tensors);
  sample.dequantized = model_values(weight);
  sample.stored_k = shape.k;
  sample.exact = false;
  sample.float_input = true;
  sample.quantized.push_back(weight);
  return sample;
}

}  // namespace

QuantizedWeight random_w4a16(const std::vector<int64_t>& part_rows, int64_t k, DType scale_type,
                             bool has_bias) {
  return random_weight(
      {.part_rows = part_rows, .k = k, .scale_type = scale_type, .has_bias = has_bias});
}

void add_w4a16_samples(std::vector<LinearSample>& samples) {
  for (const W4a16Shape& shape : std::vector<W4a16Shape>{
           {.scale_type = DType::kF16},
           {.part_rows = {130, 16, 5}, .k = 384, .has_bias = true},
           // More than one strip of 1,024 channels and of 32 rows.
           {.part_rows = {70}, .k = 1152},
           {.part_rows = {33, 2}, .k = 2560, .scale_type = DType::kF16},
           {.part_rows = {37}, .k = 1152, .scale_type = DType::kF16, .zeros = true},
           {.part_rows = {9, 2}, .k = 384, .has_bias = true, .zeros = true, .ordered = true},
           {.part_rows = {35}, .k = 1280, .group = 64},
           {.part_rows = {6, 5}, .k = 192, .scale_type = DType::kF16, .group = 64, .zeros = true},
           {.part_rows = {35}, .k = 1248, .group = 32, .zeros = true, .ordered = true},
           {.part_rows = {7}, .k = 32, .scale_type = DType::kF32, .group = 32},
           {.part_rows = {11}, .k = 256, .scale_type = DType::kF32, .has_bias = true}}) {
    samples.push_back(sample_of(shape));
  }
}

}  // namespace comet::testing
