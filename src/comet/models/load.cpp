#include "comet/models/load.h"

#include <algorithm>

#include "comet/base/json.h"
#include "comet/formats/schemes/bind_linear.h"

namespace comet::models {

Result<Tensor> MemorySource::get(std::string_view name, std::span<const DType> dtypes,
                                 const Shape& shape) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) {
    return make_error(ErrorCode::kNotFound, "tensor '{}' is missing from memory", name);
  }
  const Tensor& tensor = it->second;
  if (std::find(dtypes.begin(), dtypes.end(), tensor.dtype()) == dtypes.end() ||
      tensor.shape() != shape) {
    return make_error(ErrorCode::kCorrupt, "tensor '{}' in memory is {} {}; expected shape {}",
                      name, dtype_name(tensor.dtype()), tensor.shape().to_string(),
                      shape.to_string());
  }
  return tensor;
}

namespace {

/// kv_cache_scheme of compressed-tensors: FP8 with one scale per layer for keys, one for values.
Status check_kv_cache_scheme(const Json& scheme, const std::string& source) {
  const auto is = [&](const char* field, const Json& value, bool may_lack) {
    const auto it = scheme.is_object() ? scheme.find(field) : scheme.end();
    return it == scheme.end() || it->is_null() ? may_lack : *it == value;
  };
  const bool known = scheme.is_object() && is("num_bits", 8, false) && is("type", "float", false) &&
                     is("symmetric", true, true) && is("strategy", "tensor", false) &&
                     is("dynamic", false, true);
  if (known) return {};
  return make_error(ErrorCode::kUnsupported,
                    "{}: quantization_config.kv_cache_scheme is {}; expected num_bits 8, type "
                    "\"float\", strategy \"tensor\", symmetric, not dynamic",
                    source, scheme.dump(-1, ' ', true).substr(0, 200));
}

/// rotate and window of a kv_cache object; absent: false, [0, 0].
Result<kv::KvOptions> parse_kv_options(const JsonObject& object, const io::ModelConfig& config,
                                       const std::string& source) {
  kv::KvOptions options;
  const auto rotate = object.boolean("rotate");
  if (!rotate) return rotate.error();
  options.rotate = rotate->value_or(false);
  if (const Json* window = object.find("window"); window != nullptr) {
    const bool counts = window->is_array() && window->size() == 2 &&
                        (*window)[0].is_number_integer() && (*window)[1].is_number_integer();
    if (!counts) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: kv_cache.window is {}; expected two counts of tokens, [first, recent]",
                        source, window->dump().substr(0, 80));
    }
    // As double: the parser holds counts above 2⁶³ as unsigned, which get<int64_t> would wrap.
    const auto count = [&](size_t i) {
      return static_cast<int64_t>(std::clamp((*window)[i].get<double>(), -0x1p40, 0x1p40));
    };
    options.window_first = count(0);
    options.window_recent = count(1);
  }
  const Status valid =
      kv::check_kv_options(options, config.head_dim, config.max_position_embeddings);
  if (!valid) return Error{valid.error().code, source + ": " + valid.error().message};
  return options;
}

}  // namespace

Result<ModelFormat> parse_model_format(const io::ModelConfig& config, const std::string& source) {
  ModelFormat format;
  std::string lm_head_name = "dense";
  std::string kv_name = "kv16";
  const Json null_config;
  const Json& quantization = config.quantization_config ? *config.quantization_config : null_config;
  if (config.quantization_config) {
    const JsonObject object(quantization, source + ": quantization_config");
    if (object.find("kv_cache_scheme") != nullptr) {
      if (const Status s = check_kv_cache_scheme(*object.find("kv_cache_scheme"), source); !s) {
        return s.error();
      }
      kv_name = "kv8_fp8";
      format.has_kv_scales = true;
    }
    const Json* lm_head = object.find("lm_head");
    if (lm_head != nullptr && *lm_head == "int8") {
      lm_head_name = "w8a8-int";
    } else if (lm_head != nullptr && *lm_head != "bf16" && *lm_head != false) {
      return make_error(ErrorCode::kUnsupported,
                        "{}: quantization_config.lm_head is {}; expected bf16 or int8", source,
                        lm_head->dump(-1, ' ', true).substr(0, 80));
    }
  }
  // Comet's own format keeps the KV choice in its manifest, the others beside it.
  const Json* kv = config.comet_kv_cache ? config.comet_kv_cache.get() : nullptr;
  if (kv == nullptr && quantization.contains("kv_cache")) kv = &quantization["kv_cache"];
  if (kv != nullptr) {
    const JsonObject object(*kv, source + ": kv_cache");
    const auto name = object.string("format");
    if (!name) return name.error();
    kv_name = name->value_or("kv16");
    auto options = parse_kv_options(object, config, source);
    if (!options) return options.error();
    format.kv_options = *options;
  }
  auto lm_head = formats::find_weight_format(lm_head_name);
  if (!lm_head) return lm_head.error();
  auto kv_format = kv::find_kv_format(kv_name);
  if (!kv_format) return Error{kv_format.error().code, source + ": " + kv_format.error().message};
  format.weights = *formats::find_weight_format("dense");
  format.lm_head = *lm_head;
  format.kv = *kv_format;
  if (!config.quantization_config) return format;
  auto scheme = formats::read_quantization_config(quantization, source);
  if (!scheme) return scheme.error();
  format.weights = scheme->format;
  format.config = std::move(scheme->config);
  // A tied head is the embedding table, which stays dense.
  if (const auto* own_head = scheme->lm_head; own_head != nullptr && !config.tie_word_embeddings) {
    format.lm_head = own_head;
    format.lm_head_config = format.config;
  }
  return format;
}

Status check_device_memory(Context& ctx, const std::string& source, int64_t num_bytes) {
  if (ctx.cuda == nullptr) return {};
  const int64_t free_bytes = free_gpu_bytes();
  if (num_bytes <= free_bytes) return {};
  return make_error(ErrorCode::kResourceExhausted,
                    "{}: its weights take {:.1f} GB of GPU memory, but {:.1f} GB are free; take a "
                    "smaller model or format, or end what else uses the GPU",
                    source, static_cast<double>(num_bytes) / 1e9,
                    static_cast<double>(free_bytes) / 1e9);
}

Result<std::unique_ptr<LlamaModel>> load_model(Context& ctx, const io::Checkpoint& checkpoint,
                                               const std::string& kv_name) {
  auto config = io::parse_model_config(checkpoint.config(), checkpoint.config_path());
  if (!config) return config.error();
  auto format = parse_model_format(*config, checkpoint.config_path());
  if (!format) return format.error();
  if (!kv_name.empty()) {
    auto kv_format = kv::find_kv_format(kv_name);
    if (!kv_format) return kv_format.error();
    format->kv = *kv_format;
  }
  const Status fits = check_device_memory(ctx, checkpoint.directory(),
                                          static_cast<int64_t>(checkpoint.total_bytes()));
  if (!fits) return fits.error();
  auto model = LlamaModel::load(*config, *format, CheckpointSource(checkpoint), ctx.caps);
  if (!model) return model.error();
  if (const Status moved = model->move_to_device(ctx); !moved) return moved.error();
  return std::make_unique<LlamaModel>(*std::move(model));
}

}  // namespace comet::models
