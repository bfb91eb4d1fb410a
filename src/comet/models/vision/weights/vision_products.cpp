#include "comet/models/vision/weights/vision_products.h"

#include "comet/formats/dense/dense.h"

namespace comet::models {
namespace {

constexpr double kBatchNormEps = 1e-5;
constexpr int64_t kStemPatch = 4;
constexpr int64_t kDownsamplePatch = 2;
constexpr int64_t kColours = 3;
constexpr std::string_view kStem = "stem.0";

bool is_inception(const VisionConfig& config) {
  return config.family == VisionFamily::kInceptionNext;
}

}  // namespace

std::vector<std::string> VisionProduct::tensor_names() const {
  std::vector<std::string> names{name + ".weight", name + ".bias"};
  for (const std::string& norm : {norm_before, norm_after}) {
    if (norm.empty()) continue;
    for (const char* part : {"weight", "bias", "running_mean", "running_var"}) {
      names.push_back(norm + part);
    }
  }
  if (!scale_after.empty()) names.push_back(scale_after);
  return names;
}

VisionProduct stem_product(const VisionConfig& config) {
  VisionProduct stem{.name = std::string(kStem),
                     .weight_shape = {config.stages[0].channels, kColours, kStemPatch, kStemPatch}};
  if (is_inception(config)) stem.norm_after = "stem.1.";
  return stem;
}

VisionProduct downsample_product(const VisionConfig& config, size_t stage_idx) {
  const std::string prefix = fmt::format("stages.{}.downsample.", stage_idx);
  const int64_t from = config.stages.at(stage_idx - 1).channels;
  const int64_t to = config.stages.at(stage_idx).channels;
  VisionProduct product{.name = prefix + "1",
                        .weight_shape = {to, from, kDownsamplePatch, kDownsamplePatch}};
  if (is_inception(config)) product.norm_before = prefix + "0.";
  return product;
}

MlpProducts mlp_products(const VisionConfig& config, size_t stage_idx, int64_t block_idx) {
  const std::string prefix = fmt::format("stages.{}.blocks.{}.", stage_idx, block_idx);
  const VisionStage& stage = config.stages.at(stage_idx);
  const bool inception = is_inception(config);
  const auto shape = [&](int64_t n, int64_t k) {
    return inception ? Shape{n, k, 1, 1} : Shape{n, k};
  };
  return {{.name = prefix + "mlp.fc1",
           .weight_shape = shape(stage.hidden, stage.channels),
           .norm_before = inception ? prefix + "norm." : ""},
          {.name = prefix + "mlp.fc2",
           .weight_shape = shape(stage.channels, stage.hidden),
           .scale_after = prefix + "gamma"}};
}

std::vector<VisionProduct> head_products(const VisionConfig& config) {
  const int64_t channels = config.stages.back().channels;
  const auto product = [](const char* name, int64_t n, int64_t k) {
    return VisionProduct{.name = name, .weight_shape = {n, k}};
  };
  if (!is_inception(config)) return {product("head.fc", config.num_classes, channels)};
  return {product("head.fc1", config.head_hidden, channels),
          product("head.fc2", config.num_classes, config.head_hidden)};
}

std::vector<VisionProduct> vision_products(const VisionConfig& config) {
  std::vector<VisionProduct> products;
  for (size_t i = 0; i < config.stages.size(); ++i) {
    products.push_back(i == 0 ? stem_product(config) : downsample_product(config, i));
    for (int64_t block_idx = 0; block_idx < config.stages[i].depth; ++block_idx) {
      MlpProducts mlp = mlp_products(config, i, block_idx);
      products.push_back(std::move(mlp.fc1));
      products.push_back(std::move(mlp.fc2));
    }
  }
  for (VisionProduct& product : head_products(config)) products.push_back(std::move(product));
  return products;
}

bool is_quantized_product(const VisionProduct& product) { return product.name != kStem; }

formats::LinearSpec linear_spec(const VisionProduct& product) {
  const size_t dot = product.name.rfind('.') + 1;
  return {.name = product.name,
          .prefix = product.name.substr(0, dot),
          .parts = {product.name.substr(dot)},
          .part_rows = {product.n()},
          .k = product.k(),
          .has_bias = true,
          .may_round = true};
}

Result<nn::FloatLinear> fold_product(const VisionProduct& product,
                                     const formats::TensorSource& tensors) {
  auto linear = nn::FloatLinear::load(product.name + ".", product.weight_shape, tensors);
  if (!linear) return linear.error();
  if (!product.norm_before.empty()) {
    const int64_t channels = product.weight_shape[1];
    const auto norm = nn::load_batch_norm(product.norm_before, channels, kBatchNormEps, tensors);
    if (!norm) return norm.error();
    linear->fold_input(*norm);
  }
  if (!product.norm_after.empty()) {
    const auto norm = nn::load_batch_norm(product.norm_after, product.n(), kBatchNormEps, tensors);
    if (!norm) return norm.error();
    linear->fold_output(*norm);
  }
  if (!product.scale_after.empty()) {
    const auto scale = nn::load_layer_scale(product.scale_after, product.n(), tensors);
    if (!scale) return scale.error();
    linear->fold_output(*scale);
  }
  return linear;
}

Result<nn::Linear> load_product(const VisionProduct& product, const VisionWeights& weights) {
  if (weights.scheme == nullptr) {
    const auto folded = fold_product(product, weights.tensors);
    if (!folded) return folded.error();
    return folded->plan(weights.caps);
  }
  const formats::LinearSpec spec = linear_spec(product);
  if (!is_quantized_product(product)) {
    return nn::Linear::load(spec, formats::dense_format(), nullptr, weights.tensors, weights.caps);
  }
  return nn::Linear::load(spec, *weights.scheme->format, weights.scheme->config.get(),
                          weights.tensors, weights.caps);
}

Result<nn::GeluMlp> load_mlp(const MlpProducts& products, const VisionWeights& weights) {
  auto fc1 = load_product(products.fc1, weights);
  if (!fc1) return fc1.error();
  auto fc2 = load_product(products.fc2, weights);
  if (!fc2) return fc2.error();
  return nn::GeluMlp{*std::move(fc1), *std::move(fc2)};
}

}  // namespace comet::models
