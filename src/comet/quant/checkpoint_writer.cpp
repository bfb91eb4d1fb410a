#include "comet/quant/checkpoint_writer.h"

#include "comet/quant/weights/int8_rows.h"

namespace comet::quant {
namespace {

constexpr std::array kFloatDtypes{DType::kBF16, DType::kF16, DType::kF32};
constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
constexpr std::string_view kLmHead = "lm_head.weight";

Tensor allocate(DType dtype, const Shape& shape) {
  const auto bytes = static_cast<size_t>(shape.num_elements() * dtype_bytes(dtype));
  return {std::make_shared<Storage>(host_allocator(), bytes), 0, dtype, shape};
}

/// `values` as `dtype` where that is exact, else as FP32.
Tensor narrowed(const std::vector<float>& values, DType dtype) {
  const auto size = static_cast<int64_t>(values.size());
  bool exact = dtype != DType::kF32;
  for (size_t i = 0; exact && i < values.size(); ++i) {
    exact = dtype == DType::kBF16 ? to_float(to_bfloat16(values[i])) == values[i]
                                  : to_float(to_float16(values[i])) == values[i];
  }
  Tensor tensor = allocate(exact ? dtype : DType::kF32, {size});
  for (int64_t i = 0; i < size; ++i) {
    if (tensor.dtype() == DType::kF32) tensor.data<float>()[i] = values[i];
    if (tensor.dtype() == DType::kBF16) tensor.data<BFloat16>()[i] = to_bfloat16(values[i]);
    if (tensor.dtype() == DType::kF16) tensor.data<Float16>()[i] = to_float16(values[i]);
  }
  return tensor;
}

}  // namespace

Result<CheckpointWriter> CheckpointWriter::create(const std::string& directory,
                                                  const io::Checkpoint& checkpoint,
                                                  const io::ModelConfig& config,
                                                  const QuantizeOptions& options) {
  auto opened = io::SafetensorsWriter::create(directory);
  if (!opened) return opened.error();
  CheckpointWriter writer(checkpoint, config, options, *std::move(opened));
  if (const Status status = writer.find_formats(); !status) return status.error();
  if (const Status status = writer.copy_tensor(std::string(kEmbedding)); !status) {
    return status.error();
  }
  return writer;
}

Result<CheckpointWriter> CheckpointWriter::continue_from(const std::string& directory,
                                                         const io::Checkpoint& checkpoint,
                                                         const io::ModelConfig& config,
                                                         const QuantizeOptions& options,
                                                         const Json& save_point) {
  auto opened =
      io::SafetensorsWriter::continue_from(directory, save_point.value("tensors", std::string()));
  if (!opened) return opened.error();
  CheckpointWriter writer(checkpoint, config, options, *std::move(opened));
  if (const Status status = writer.find_formats(); !status) return status.error();
  writer.sites_ = save_point.value("sites", Json::array());
  writer.linears_ = save_point.value("linears", Json::array());
  return writer;
}

Result<Json> CheckpointWriter::save_point() {
  auto tensors = writer_.save_point();
  if (!tensors) return tensors.error();
  return Json{{"tensors", *std::move(tensors)}, {"sites", sites_}, {"linears", linears_}};
}

Status CheckpointWriter::find_formats() {
  const auto format = formats::find_weight_format(options_.format);
  if (!format) return format.error();
  format_ = *format;
  const auto kv_format = kv::find_kv_format(options_.kv);
  if (!kv_format) return kv_format.error();
  kv_format_ = *kv_format;
  return {};
}

Status CheckpointWriter::copy_tensor(const std::string& name) {
  const auto tensor = checkpoint_->tensor(name);
  if (!tensor) return tensor.error();
  const Status status = writer_.append(name, *tensor);
  checkpoint_->release(name);
  return status;
}

Result<Tensor> CheckpointWriter::norm_tensor(const std::string& name,
                                             const std::vector<float>& values) const {
  const auto original =
      checkpoint_->tensor(name, kFloatDtypes, {static_cast<int64_t>(values.size())});
  if (!original) return original.error();
  return narrowed(values, original->dtype());
}

Result<models::LlamaLayer> CheckpointWriter::append_layer(const Caps& caps, int64_t layer_idx,
                                                          QuantizedLayer layer) {
  models::MemorySource tensors;
  const auto append = [&](const std::string& name, const Tensor& tensor) {
    tensors.put(name, tensor);
    return writer_.append(name, tensor);
  };
  const auto norm_specs = models::llama_norm_specs(config_, layer_idx);
  for (size_t i = 0; i < norm_specs.size(); ++i) {
    const auto norm = norm_tensor(norm_specs[i].name, layer.norms[i]);
    if (!norm) return norm.error();
    if (const Status status = append(norm_specs[i].name, *norm); !status) return status.error();
  }
  Json sites = Json::array();
  Json linears = Json::array();
  for (formats::QuantizedWeight& weight : layer.linears) {
    auto packed = format_->pack(weight);
    if (!packed) return packed.error();
    weight = {};
    for (const auto& [name, tensor] : packed->tensors) {
      if (const Status status = append(name, tensor); !status) return status.error();
    }
    sites.push_back(packed->site);
    linears.push_back(packed->linear);
  }
  sites_.insert(sites_.end(), sites.begin(), sites.end());
  linears_.insert(linears_.end(), linears.begin(), linears.end());

  auto parsed = format_->parse_config(manifest(sites, linears), "the layer just quantized");
  if (!parsed) return parsed.error();
  models::ModelFormat format;
  format.weights = format_;
  format.config = *std::move(parsed);
  format.kv = kv_format_;
  format.kv_options = options_.kv_options;
  return models::LlamaLayer::load(config_, layer_idx, format, tensors, caps);
}

Status CheckpointWriter::append_int8_lm_head() {
  const bool tied = !checkpoint_->contains(kLmHead);
  const auto tensor = checkpoint_->tensor(tied ? kEmbedding : kLmHead, kFloatDtypes,
                                          {config_.vocab_size, config_.hidden_size});
  if (!tensor) return tensor.error();
  auto quantized = quantize_int8_rows("lm_head", *tensor);
  if (!quantized) return quantized.error();
  const auto format = formats::find_weight_format("w8a8-int");
  if (!format) return format.error();
  const auto packed = (*format)->pack(*quantized);
  if (!packed) return packed.error();
  for (const auto& [name, packed_tensor] : packed->tensors) {
    if (const Status status = writer_.append(name, packed_tensor); !status) return status;
  }
  return {};
}

Result<int64_t> CheckpointWriter::finish() {
  Status status = copy_tensor("model.norm.weight");
  if (!status) return status.error();
  if (options_.int8_lm_head) {
    status = append_int8_lm_head();
  } else if (!config_.tie_word_embeddings || checkpoint_->contains(kLmHead)) {
    status = copy_tensor(std::string(kLmHead));
  }
  if (!status) return status.error();
  const auto files = writer_.finish();
  if (!files) return files.error();
  return static_cast<int64_t>(writer_.payload_bytes());
}

Json CheckpointWriter::kv_cache() const {
  const kv::KvOptions& kv = options_.kv_options;
  return {{"format", options_.kv},
          {"rotate", kv.rotate},
          {"window", {kv.window_first, kv.window_recent}}};
}

Json CheckpointWriter::manifest(const Json& sites, const Json& linears) const {
  formats::ManifestParts parts;
  parts.granularity = options_.granularity;
  parts.act_scale = options_.act_scale;
  parts.int8_lm_head = options_.int8_lm_head;
  parts.kv_cache = kv_cache();
  parts.sites = sites;
  parts.linears = linears;
  return format_->manifest(parts);
}

Json CheckpointWriter::quantization_config() const { return manifest(sites_, linears_); }

}  // namespace comet::quant
