#include "support/linear_samples.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "comet/formats/w4ax/w4ax.h"

namespace comet::testing {
namespace {

using formats::ActScale;
using formats::Granularity;
using formats::kBlock;
using formats::LinearSpec;
using formats::PackedLinear;
using formats::QuantizedWeight;

int64_t padded(int64_t k) { return (k + kBlock - 1) / kBlock * kBlock; }

/// A shuffle of the channels with the padding at the end of the INT4 segment.
std::vector<int32_t> random_perm(const formats::SiteLayout& site, Rng& rng) {
  std::vector<int32_t> channels(static_cast<size_t>(site.k));
  std::iota(channels.begin(), channels.end(), 0);
  for (size_t i = channels.size(); i > 1; --i) {
    std::swap(channels[i - 1], channels[rng.next_below(i)]);
  }
  const int64_t padding = site.k_padded - site.k;
  const int64_t at = std::max<int64_t>(0, site.int4_channels() - padding);
  channels.insert(channels.begin() + std::min<int64_t>(at, site.k), static_cast<size_t>(padding),
                  -1);
  return channels;
}

LinearSpec spec_of(const QuantizedWeight& weight) {
  LinearSpec spec;
  spec.name = weight.name;
  spec.prefix = weight.name.substr(0, weight.name.rfind('.') + 1);
  spec.parts = weight.parts;
  spec.part_rows = weight.part_rows;
  spec.k = weight.site.k;
  spec.has_bias = !weight.bias.empty();
  return spec;
}

/// Computed here from the definition of E4M3.
double code_value(const QuantizedWeight& w, int8_t code) {
  if (w.code_type == formats::CodeType::kInt) return code;
  const int exponent = code >> 3 & 15;
  const int mantissa = code & 7;
  const double size =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return code < 0 ? -size : size;
}

double weight_value(const QuantizedWeight& w, int64_t row, int64_t i) {
  const int64_t rows = w.num_rows();
  const double code = code_value(w, w.codes[static_cast<size_t>(row * w.site.k_padded + i)]);
  const auto group = static_cast<size_t>(i / kBlock * rows + row);
  switch (w.granularity) {
    case Granularity::kGroup:
      return code * double{w.group_scale[group]};
    case Granularity::kProgressive:
      return double{w.channel_scale[static_cast<size_t>(row)]} *
             (code * w.group_multiplier[group] + w.group_offset[group]);
    default:
      return code * double{w.channel_scale[static_cast<size_t>(row)]};
  }
}

std::vector<double> weight_values(const QuantizedWeight& w) {
  std::vector<double> values;
  for (int64_t row = 0; row < w.num_rows(); ++row) {
    for (int64_t i = 0; i < w.site.k_padded; ++i) values.push_back(weight_value(w, row, i));
  }
  return values;
}

LinearSample w4ax_sample(const W4axShape& shape, uint64_t seed) {
  LinearSample sample;
  const QuantizedWeight weight = random_w4ax(shape, seed);
  TensorMap tensors;
  sample.label = fmt::format("w4ax {} {} n=[{}] k={} int8={}{}", act_scale_name(shape.scale),
                             granularity_name(shape.granularity), fmt::join(shape.part_rows, ","),
                             shape.k, shape.int8_blocks, shape.has_bias ? " bias" : "");
  sample.weight = bind_w4ax(weight, tensors);
  sample.dequantized = weight_values(weight);
  sample.stored_k = weight.site.k_padded;
  sample.budget = shape.int8_blocks == weight.site.num_blocks() ? 0.02 : 0.3;
  sample.quantized.push_back(weight);
  return sample;
}

template <typename T>
T rounded(float x) {
  if constexpr (std::is_same_v<T, BFloat16>) return to_bfloat16(x);
  if constexpr (std::is_same_v<T, Float16>) return to_float16(x);
  if constexpr (std::is_same_v<T, float>) return x;
}

double widened(float x) { return x; }
double widened(BFloat16 x) { return to_float(x); }
double widened(Float16 x) { return to_float(x); }

template <typename T>
LinearSample dense_sample(const std::vector<int64_t>& part_rows, int64_t k, bool has_bias) {
  LinearSpec spec;
  spec.name = "layer.proj";
  spec.prefix = "layer.";
  spec.part_rows = part_rows;
  spec.k = k;
  spec.has_bias = has_bias;
  LinearSample sample;
  TensorMap tensors;
  Rng rng(static_cast<uint64_t>(k), part_rows.size());
  for (size_t i = 0; i < part_rows.size(); ++i) {
    spec.parts.push_back(fmt::format("part{}", i));
    std::vector<T> values;
    for (int64_t j = 0; j < part_rows[i] * k; ++j) {
      values.push_back(rounded<T>(rng.next_normal()));
      sample.dequantized.push_back(widened(values.back()));
    }
    tensors.set("layer." + spec.parts[i] + ".weight", make_tensor(Shape{part_rows[i], k}, values));
    std::vector<T> bias;
    for (int64_t j = 0; j < part_rows[i]; ++j) bias.push_back(rounded<T>(rng.next_normal()));
    tensors.set("layer." + spec.parts[i] + ".bias", make_tensor(Shape{part_rows[i]}, bias));
  }
  sample.label = fmt::format("dense {} n=[{}] k={}{}", dtype_name(DTypeOf<T>::value),
                             fmt::join(part_rows, ","), k, has_bias ? " bias" : "");
  sample.weight = *(*formats::find_weight_format("dense"))->bind(spec, nullptr, tensors);
  sample.stored_k = k;
  sample.exact = false;
  sample.float_input = true;
  return sample;
}

/// `name`: "lm_head", or a linear of a layer with scales of `scale_type`.
QuantizedWeight random_w8a8(const std::string& name, const std::vector<int64_t>& part_rows,
                            int64_t k, formats::CodeType type, DType scale_type, bool has_bias) {
  Rng rng(static_cast<uint64_t>(k), 77);
  QuantizedWeight weight;
  weight.name = name;
  weight.code_type = type;
  weight.channel_scale_type = scale_type;
  weight.part_rows = part_rows;
  for (size_t i = 0; i < part_rows.size(); ++i) {
    weight.parts.push_back(name == "lm_head" ? name : fmt::format("part{}", i));
  }
  weight.site.k = k;
  weight.site.k_padded = k;
  weight.site.scale = ActScale::kToken;
  for (int64_t i = 0; i < weight.num_rows() * k; ++i) {
    const auto code = static_cast<int8_t>(static_cast<int>(rng.next_below(256)) - 128);
    const bool nan = type == formats::CodeType::kE4M3 && (code & 0x7F) == 0x7F;
    weight.codes.push_back(nan ? int8_t{-128} : code);
  }
  for (int64_t i = 0; i < weight.num_rows(); ++i) {
    const float scale = rng.next_uniform() * 0.01F;
    weight.channel_scale.push_back(scale_type == DType::kBF16  ? to_float(to_bfloat16(scale))
                                   : scale_type == DType::kF16 ? to_float(to_float16(scale))
                                                               : scale);
    if (has_bias) weight.bias.push_back(rng.next_normal());
  }
  return weight;
}

LinearSample w8a8_sample(const QuantizedWeight& weight) {
  const bool fp8 = weight.code_type == formats::CodeType::kE4M3;
  LinearSample sample;
  TensorMap tensors;
  const formats::WeightFormat& format =
      **formats::find_weight_format(fp8 ? "w8a8-fp8" : "w8a8-int");
  tensors.add(*format.pack(weight));
  sample.label = fmt::format(
      "{} {} n=[{}] k={}{}", format.name, dtype_name(weight.channel_scale_type),
      fmt::join(weight.part_rows, ","), weight.site.k, weight.bias.empty() ? "" : " bias");
  sample.weight = *format.bind(spec_of(weight), nullptr, tensors);
  sample.dequantized = weight_values(weight);
  sample.stored_k = weight.site.k;
  sample.exact = !fp8;
  sample.budget = fp8 ? 0.06 : 0.02;
  sample.quantized.push_back(weight);
  return sample;
}

void add_w8a8_samples(std::vector<LinearSample>& samples) {
  using formats::CodeType;
  const std::string linear = "layer.qk_proj";
  samples.push_back(
      w8a8_sample(random_w8a8("lm_head", {37}, 200, CodeType::kInt, DType::kF32, false)));
  for (const CodeType type : {CodeType::kInt, CodeType::kE4M3}) {
    const auto add = [&](const std::vector<int64_t>& rows, int64_t k, DType scale, bool bias) {
      samples.push_back(w8a8_sample(random_w8a8(linear, rows, k, type, scale, bias)));
    };
    add({1}, 1, DType::kF32, false);
    add({17}, 33, DType::kF32, false);
    add({5, 64}, 384, DType::kBF16, true);
    // More than one strip of rows, and of channels.
    add({70}, 1100, DType::kF16, false);
    add({34, 3}, 2500, DType::kBF16, false);
  }
}

}  // namespace

QuantizedWeight random_w4ax(const W4axShape& shape, uint64_t seed) {
  Rng rng(seed);
  QuantizedWeight w;
  w.name = "model.layers.0.self_attn.qkv_proj";
  w.part_rows = shape.part_rows;
  for (size_t i = 0; i < shape.part_rows.size(); ++i) w.parts.push_back(fmt::format("p{}", i));
  w.site.name = "model.layers.0.self_attn.qkv_in";
  w.site.k = shape.k;
  w.site.k_padded = padded(shape.k);
  w.site.int8_blocks = shape.int8_blocks;
  w.site.clip = shape.clip;
  w.site.scale = shape.scale;
  if (shape.permuted) w.site.perm = random_perm(w.site, rng);
  w.granularity = shape.granularity;
  const bool progressive = shape.granularity == Granularity::kProgressive;
  const int64_t rows = w.num_rows();
  for (int64_t i = 0; i < rows * w.site.k_padded; ++i) {
    const int code = static_cast<int>(rng.next_below(16));
    w.codes.push_back(static_cast<int8_t>(progressive ? code : code - 8));
  }
  if (shape.granularity != Granularity::kGroup) {
    for (int64_t i = 0; i < rows; ++i) w.channel_scale.push_back(rng.next_uniform() * 0.01F);
  }
  for (int64_t i = 0; i < rows * w.site.num_blocks(); ++i) {
    if (shape.granularity == Granularity::kGroup) {
      w.group_scale.push_back(to_float(to_float16(rng.next_uniform() * 0.1F)));
    } else if (progressive) {
      const auto g = static_cast<int>(1 + rng.next_below(16));
      const auto num_offsets = static_cast<uint64_t>(256 - 15 * g);  // 15·g + o ≤ 127
      w.group_multiplier.push_back(static_cast<uint8_t>(g));
      w.group_offset.push_back(
          static_cast<int8_t>(static_cast<int>(rng.next_below(num_offsets)) - 128));
    }
  }
  for (int64_t i = 0; shape.has_bias && i < rows; ++i) w.bias.push_back(rng.next_normal());
  return w;
}

Json w4ax_config(const QuantizedWeight& weight, const PackedLinear& packed) {
  formats::ManifestParts parts;
  parts.granularity = weight.granularity;
  parts.act_scale = weight.site.scale;
  parts.kv_cache = {{"format", "kv4"}, {"rotate", true}, {"window", {0, 0}}};
  parts.sites.push_back(packed.site);
  parts.linears.push_back(packed.linear);
  return formats::w4ax_format().manifest(parts);
}

formats::LinearWeight bind_w4ax(const QuantizedWeight& weight, TensorMap& tensors) {
  const formats::WeightFormat& format = formats::w4ax_format();
  const PackedLinear packed = *format.pack(weight);
  tensors.add(packed);
  const auto config = *format.parse_config(w4ax_config(weight, packed), "config.json");
  return *format.bind(spec_of(weight), config.get(), tensors);
}

std::vector<LinearSample> linear_samples() {
  std::vector<LinearSample> samples;
  samples.push_back(dense_sample<BFloat16>({17, 3}, 65, true));
  samples.push_back(dense_sample<BFloat16>({40}, 256, false));
  samples.push_back(dense_sample<BFloat16>({70}, 1100, false));
  samples.push_back(dense_sample<Float16>({5, 37}, 129, true));
  samples.push_back(dense_sample<float>({1}, 7, false));
  samples.push_back(dense_sample<float>({33}, 320, false));
  add_w8a8_samples(samples);
  add_w4a16_samples(samples);
  uint64_t seed = 1;
  for (const Granularity granularity :
       {Granularity::kChannel, Granularity::kGroup, Granularity::kProgressive}) {
    for (const ActScale scale : {ActScale::kS1, ActScale::kS2, ActScale::kS2h}) {
      const auto add = [&](W4axShape shape) {
        shape.granularity = granularity;
        shape.scale = scale;
        samples.push_back(w4ax_sample(shape, ++seed));
      };
      add({.part_rows = {1}, .k = 1, .permuted = false});
      add({.part_rows = {130, 16, 5}, .k = 300, .int8_blocks = 1, .has_bias = true});
      add({.part_rows = {20}, .k = 384, .int8_blocks = 3});
      // More than one chain of 8 blocks, with the segments' border inside the second.
      add({.part_rows = {33}, .k = 2500, .int8_blocks = 8, .permuted = true});
    }
  }
  return samples;
}

}  // namespace comet::testing
