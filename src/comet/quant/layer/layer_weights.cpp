#include "comet/quant/layer/layer_weights.h"

#include <algorithm>
#include <cmath>

#include "comet/nn/rms_norm.h"
#include "comet/quant/fmpq/permutation.h"
#include "comet/quant/fmpq/rotation.h"

namespace comet::quant {
namespace {

constexpr std::array kFloatDtypes{DType::kBF16, DType::kF16, DType::kF32};
constexpr std::array<std::string_view, kNumSites> kSiteNames{"qkv_in", "o_in", "gate_up_in",
                                                             "down_in"};
constexpr size_t kUpPart = 1;
constexpr size_t kKeyPart = 1;
constexpr size_t kValuePart = 2;
// Positions in LayerWeights::norms.
constexpr size_t kAttnNorm = 0;
constexpr size_t kMlpNorm = 1;
constexpr size_t kQNorm = 2;
constexpr size_t kKNorm = 3;

Result<std::vector<float>> load_floats(const formats::TensorSource& tensors,
                                       const std::string& name, const Shape& shape,
                                       DType* dtype = nullptr) {
  const auto tensor = tensors.get(name, kFloatDtypes, shape);
  if (!tensor) return tensor.error();
  if (dtype != nullptr) *dtype = tensor->dtype();
  std::vector<float> values = nn::to_float_vector(*tensor);
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      return make_error(ErrorCode::kCorrupt,
                        "tensor '{}': element {} is {}; a model with NaN or infinite weights "
                        "cannot be quantized",
                        name, i, values[i]);
    }
  }
  return values;
}

Status load_linear(const formats::TensorSource& tensors, LayerWeights& layer, size_t site_idx) {
  const formats::LinearSpec& spec = layer.specs[site_idx];
  Matrix& weight = layer.weights[site_idx];
  weight.rows = spec.n();
  weight.cols = spec.k;
  weight.values.reserve(weight.rows * weight.cols);
  for (size_t i = 0; i < spec.parts.size(); ++i) {
    const std::string prefix = spec.prefix + spec.parts[i];
    auto values = load_floats(tensors, prefix + ".weight", {spec.part_rows[i], spec.k});
    if (!values) return values.error();
    weight.values.insert(weight.values.end(), values->begin(), values->end());
    if (!spec.has_bias) continue;
    auto bias = load_floats(tensors, prefix + ".bias", {spec.part_rows[i]});
    if (!bias) return bias.error();
    std::vector<float>& all = layer.biases[site_idx];
    all.insert(all.end(), bias->begin(), bias->end());
  }
  return {};
}

/// A tensor over `count` floats that someone else owns.
Tensor borrow(const float* values, const Shape& shape) {
  auto* bytes = reinterpret_cast<std::byte*>(const_cast<float*>(values));
  const size_t num_bytes = static_cast<size_t>(shape.num_elements()) * sizeof(float);
  return {std::make_shared<Storage>(bytes, num_bytes, nullptr), 0, DType::kF32, shape};
}

void scale_row(LayerWeights& layer, Site site, int64_t row, float factor) {
  float* w = layer.weight(site).row(row);
  for (int64_t c = 0; c < layer.weight(site).cols; ++c) w[c] *= factor;
  if (!layer.bias(site).empty()) layer.bias(site)[row] *= factor;
}

void scale_columns(Matrix& weight, std::span<const float> scales) {
  for (int64_t n = 0; n < weight.rows; ++n) {
    for (int64_t c = 0; c < weight.cols; ++c) weight.row(n)[c] *= scales[c];
  }
}

/// The first of the o_in channels that read the same V row as channel c.
int64_t first_sharing_channel(const LayerWeights& layer, int64_t c) {
  const int64_t group_size = layer.num_heads / layer.num_kv_heads;
  const int64_t kv_head = c / layer.head_dim / group_size;
  return kv_head * group_size * layer.head_dim + c % layer.head_dim;
}

/// What produces channel c of the site, times `factor`.
void scale_source(LayerWeights& layer, Site site, int64_t c, float factor) {
  switch (site) {
    case Site::kQkvIn:
      layer.norms[kAttnNorm][c] *= factor;
      return;
    case Site::kGateUpIn:
      layer.norms[kMlpNorm][c] *= factor;
      return;
    case Site::kDownIn:
      scale_row(layer, Site::kGateUpIn, layer.part_begin(Site::kGateUpIn, kUpPart) + c, factor);
      return;
    case Site::kOIn: {
      if (first_sharing_channel(layer, c) != c) return;  // scaled for the group's first head
      const int64_t v_begin = layer.part_begin(Site::kQkvIn, kValuePart);
      scale_row(layer, Site::kQkvIn, v_begin + value_channel(layer, c), factor);
      return;
    }
  }
}

}  // namespace

std::string LayerWeights::site_name(Site site) const {
  return spec(site).prefix + std::string(kSiteNames[static_cast<size_t>(site)]);
}

int64_t LayerWeights::part_begin(Site site, size_t part_idx) const {
  int64_t begin = 0;
  for (size_t i = 0; i < part_idx; ++i) begin += spec(site).part_rows[i];
  return begin;
}

Result<LayerWeights> load_layer_weights(const formats::TensorSource& tensors,
                                        const io::ModelConfig& config, int64_t layer_idx) {
  LayerWeights layer;
  layer.layer_idx = layer_idx;
  layer.num_heads = config.num_heads;
  layer.num_kv_heads = config.num_kv_heads;
  layer.head_dim = config.head_dim;
  for (const models::NormSpec& spec : models::llama_norm_specs(config, layer_idx)) {
    DType dtype = DType::kF32;
    auto norm = load_floats(tensors, spec.name, {spec.size}, &dtype);
    if (!norm) return norm.error();
    layer.norm_dtypes.push_back(dtype);
    layer.norms.push_back(*std::move(norm));
  }
  const std::vector<formats::LinearSpec> specs = models::llama_linear_specs(config, layer_idx);
  COMET_CHECK(specs.size() == kNumSites, "{} linears", specs.size());
  for (size_t i = 0; i < kNumSites; ++i) {
    layer.specs[i] = specs[i];
    if (const Status status = load_linear(tensors, layer, i); !status) return status.error();
  }
  return layer;
}

models::MemorySource borrow_tensors(const LayerWeights& layer, const io::ModelConfig& config) {
  models::MemorySource source;
  const auto norm_specs = models::llama_norm_specs(config, layer.layer_idx);
  for (size_t i = 0; i < norm_specs.size(); ++i) {
    source.put(norm_specs[i].name, borrow(layer.norms[i].data(), {norm_specs[i].size}));
  }
  for (const Site site : kSites) {
    const formats::LinearSpec& spec = layer.spec(site);
    for (size_t i = 0; i < spec.parts.size(); ++i) {
      const int64_t begin = layer.part_begin(site, i);
      const std::string name = spec.prefix + spec.parts[i];
      source.put(name + ".weight",
                 borrow(layer.weight(site).row(begin), {spec.part_rows[i], spec.k}));
      if (!spec.has_bias) continue;
      const std::vector<float>& bias = layer.biases[static_cast<size_t>(site)];
      source.put(name + ".bias", borrow(bias.data() + begin, {spec.part_rows[i]}));
    }
  }
  return source;
}

Result<models::LlamaLayer> bind_float_layer(const LayerWeights& layer,
                                            const io::ModelConfig& config, Context& ctx) {
  const auto dense = formats::find_weight_format("dense");
  if (!dense) return dense.error();
  models::ModelFormat format;
  format.weights = *dense;
  auto bound = models::LlamaLayer::load(config, layer.layer_idx, format,
                                        borrow_tensors(layer, config), ctx.caps);
  if (!bound) return bound;
  if (const Status moved = bound->move_to_device(ctx); !moved) return moved.error();
  return bound;
}

std::array<nn::Linear*, kNumSites> linears_of(models::LlamaLayer& layer) {
  return {&layer.qkv, &layer.out_proj, &layer.gate_up, &layer.down_proj};
}

int64_t value_channel(const LayerWeights& layer, int64_t c) {
  const int64_t group_size = layer.num_heads / layer.num_kv_heads;
  return c / layer.head_dim / group_size * layer.head_dim + c % layer.head_dim;
}

void fold_scales(LayerWeights& layer, Site site, std::span<const float> scales) {
  for (int64_t c = 0; c < static_cast<int64_t>(scales.size()); ++c) {
    if (site == Site::kOIn) {
      const int64_t first = first_sharing_channel(layer, c);
      COMET_CHECK(scales[first] == scales[c], "channels {} and {} share a V row", first, c);
    }
    if (scales[c] == 1.0F) continue;
    scale_source(layer, site, c, 1.0F / scales[c]);
  }
  scale_columns(layer.weight(site), scales);
}

void permute_ffn_rows(LayerWeights& layer, std::span<const int32_t> order) {
  for (size_t part = 0; part < 2; ++part) {
    permute_rows(layer.weight(Site::kGateUpIn), layer.bias(Site::kGateUpIn),
                 layer.part_begin(Site::kGateUpIn, part), order);
  }
}

void fold_value_rotation(LayerWeights& layer) {
  const int64_t head_dim = layer.head_dim;
  Matrix& qkv = layer.weight(Site::kQkvIn);
  std::vector<float>& bias = layer.bias(Site::kQkvIn);
  std::vector<float> column(head_dim);
  for (int64_t kv_head = 0; kv_head < layer.num_kv_heads; ++kv_head) {
    const int64_t begin = layer.part_begin(Site::kQkvIn, kValuePart) + kv_head * head_dim;
    for (int64_t c = 0; c < qkv.cols; ++c) {
      for (int64_t i = 0; i < head_dim; ++i) column[i] = qkv.row(begin + i)[c];
      hadamard(column.data(), head_dim);
      for (int64_t i = 0; i < head_dim; ++i) qkv.row(begin + i)[c] = column[i];
    }
    if (!bias.empty()) hadamard(bias.data() + begin, head_dim);
  }
  Matrix& o = layer.weight(Site::kOIn);
  for (int64_t n = 0; n < o.rows; ++n) {
    for (int64_t head = 0; head < layer.num_heads; ++head) {
      hadamard(o.row(n) + head * head_dim, head_dim);
    }
  }
}

void fold_key_scales(LayerWeights& layer, std::span<const float> lambda) {
  const int64_t half = layer.head_dim / 2;
  const int64_t group_size = layer.num_heads / layer.num_kv_heads;
  if (layer.has_qk_norm()) {  // what stands in front of a norm has no scale
    for (int64_t i = 0; i < layer.head_dim; ++i) {
      layer.norms[kQNorm][i] *= lambda[i % half];
      layer.norms[kKNorm][i] /= lambda[i % half];
    }
    return;
  }
  const int64_t k_begin = layer.part_begin(Site::kQkvIn, kKeyPart);
  for (int64_t kv_head = 0; kv_head < layer.num_kv_heads; ++kv_head) {
    for (int64_t i = 0; i < layer.head_dim; ++i) {
      const float factor = lambda[kv_head * half + i % half];
      scale_row(layer, Site::kQkvIn, k_begin + kv_head * layer.head_dim + i, 1.0F / factor);
      for (int64_t g = 0; g < group_size; ++g) {
        const int64_t head = kv_head * group_size + g;
        scale_row(layer, Site::kQkvIn, head * layer.head_dim + i, factor);
      }
    }
  }
}

}  // namespace comet::quant
