#include "comet/quant/export/export_compressed_tensors.h"

#include "comet/base/log.h"
#include "comet/formats/schemes/compressed_tensors.h"

namespace comet::quant {
namespace {

/// w4ax's weights as w4a16 holds them; what quantizes its inputs is left out.
Result<formats::QuantizedWeight> weights_alone(formats::QuantizedWeight weight) {
  const formats::SiteLayout& site = weight.site;
  std::string_view obstacle;
  if (weight.granularity != formats::Granularity::kGroup) {
    obstacle = "its weights have other scales than one per group of 128";
  } else if (!site.perm.empty()) {
    obstacle = "its input channels are permuted";
  } else if (site.scale == formats::ActScale::kS2h && site.int4_channels() > 0) {
    obstacle = "its input channels are rotated";
  } else if (site.k_padded != site.k) {
    obstacle = "its input channels are padded";
  }
  if (!obstacle.empty()) {
    return make_error(ErrorCode::kUnsupported,
                      "'{}' has no compressed-tensors form: {}; use --format dense", weight.name,
                      obstacle);
  }
  weight.site.scale = formats::ActScale::kA16;
  weight.site.int8_blocks = 0;
  weight.site.clip = 1.0F;
  return weight;
}

/// What one group of config_groups says of its weights.
Json group_arguments(const formats::QuantizedWeight& weight) {
  Json arguments = formats::quantization_arguments(4, "int", "group", weight.group_size);
  arguments["symmetric"] = weight.group_zero.empty();
  if (!weight.site.perm.empty()) arguments["actorder"] = "group";
  return arguments;
}

class PackedTarget final : public ExportTarget {
 public:
  [[nodiscard]] int64_t bytes_needed(const Export& e) const override {
    return static_cast<int64_t>(e.checkpoint.total_bytes());
  }

  Status append_floats(Export& e, const std::string& name, const Tensor& tensor) override {
    return e.writer->append(name, tensor);
  }

  Status append_linear(Export& e, const formats::LinearWeight& weight) override {
    const formats::LinearSpec& spec = weight.spec;
    if (weight.format->pack == nullptr) return append_dense(e, weight);
    auto quantized = weight.format->unpack(weight);
    if (quantized && weight.format->name == "w4ax")
      quantized = weights_alone(*std::move(quantized));
    if (!quantized) return quantized.error();
    const auto format = formats::find_weight_format("w4a16");
    if (!format) return format.error();
    const auto packed = (*format)->pack(*quantized);
    if (!packed) return packed.error();
    for (const auto& [name, tensor] : packed->tensors) {
      if (const Status s = e.writer->append(name, tensor); !s) return s;
    }
    half_scales_ = half_scales_ || quantized->scale_type == DType::kF16;
    if (!quantized->site.perm.empty() && !has_order_) {
      has_order_ = true;
      log_warning(
          "'{}' assigns channels to groups out of order: written as weight_g_idx with actorder "
          "\"group\", which compressed-tensors refuses since about 0.20; --format dense is for all",
          quantized->name);
    }
    Json& targets = targets_of_[group_arguments(*quantized).dump()];
    for (const std::string& part : spec.parts) targets.push_back(spec.prefix + part);
    return {};
  }

  [[nodiscard]] Json config(const Export& e) const override {
    Json manifest = formats::compressed_tensors_manifest("pack-quantized", nullptr, nullptr);
    Json groups = Json::object();
    for (const auto& [arguments, targets] : targets_of_) {
      Json group = manifest["config_groups"]["group_0"];
      group["weights"] = Json::parse(arguments);
      if (targets_of_.size() > 1) group["targets"] = targets;
      groups["group_" + std::to_string(groups.size())] = std::move(group);
    }
    manifest["config_groups"] = std::move(groups);
    for (const std::string& name : dense_) manifest["ignore"].push_back(name);
    Json config = e.checkpoint.config();
    const Json& own = config["quantization_config"];
    if (own.contains("kv_cache")) config["comet_kv_cache"] = own["kv_cache"];
    config["quantization_config"] = std::move(manifest);
    // The ecosystem casts scales to the model's type: it must hold them exactly.
    if (half_scales_) config[config.contains("dtype") ? "dtype" : "torch_dtype"] = "float16";
    if (e.format.lm_head->pack != nullptr) config["tie_word_embeddings"] = false;
    return config;
  }

 private:
  Status append_dense(Export& e, const formats::LinearWeight& weight) {
    const formats::LinearSpec& spec = weight.spec;
    for (size_t i = 0; i < weight.tensors.size(); ++i) {  // the parts, then their biases
      const std::string name = spec.prefix + spec.parts[i % spec.parts.size()];
      const bool is_weight = i < spec.parts.size();
      if (is_weight) dense_.push_back(name);
      const Status status =
          e.writer->append(name + (is_weight ? ".weight" : ".bias"), weight.tensors[i]);
      if (!status) return status;
    }
    return {};
  }

  std::map<std::string, Json> targets_of_;  // arguments of a group -> names of its linears
  std::vector<std::string> dense_;
  bool half_scales_ = false;
  bool has_order_ = false;
};

/// Formats that have the form already, or nothing to bring out.
Status check_source(const Export& e) {
  const std::string source = e.checkpoint.config_path();
  if (e.format.weights->pack == nullptr) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: this model is dense; `comet quantize --format w4a16` writes "
                      "compressed-tensors' form",
                      source);
  }
  const Json& own = *e.config.quantization_config;
  if (own.contains("quant_method") && own["quant_method"] == formats::kCompressedTensors) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: {} is stored in compressed-tensors' form already; transformers and vLLM "
                      "read the folder as it is",
                      source, e.format.weights->name);
  }
  return {};
}

}  // namespace

Result<int64_t> export_compressed_tensors(Context& ctx, const io::Checkpoint& checkpoint,
                                          const ExportRequest& request) {
  auto e = start_export(ctx, checkpoint);
  if (!e) return e.error();
  if (const Status s = check_source(*e); !s) return s.error();
  PackedTarget target;
  return export_model(*e, target, request);
}

}  // namespace comet::quant
