#include "comet/quant/export/export_dense.h"

#include "comet/base/json.h"
#include "comet/io/file.h"
#include "comet/io/safetensors_writer.h"
#include "comet/models/load.h"
#include "comet/nn/rms_norm.h"
#include "comet/quant/companion_files.h"
#include "comet/quant/export/dense_weight.h"
#include "comet/quant/output_folder.h"

namespace comet::quant {
namespace {

constexpr std::array kFloatDtypes{DType::kBF16, DType::kF16, DType::kF32};
constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
constexpr std::string_view kLmHead = "lm_head.weight";

Tensor to_bf16(const float* values, const Shape& shape) {
  const int64_t size = shape.num_elements();
  Tensor tensor(std::make_shared<Storage>(host_allocator(), static_cast<size_t>(size) * 2), 0,
                DType::kBF16, shape);
  for (int64_t i = 0; i < size; ++i) tensor.data<BFloat16>()[i] = to_bfloat16(values[i]);
  return tensor;
}

/// What the stages share.
struct Export {
  Context& ctx;
  const io::Checkpoint& checkpoint;
  const io::ModelConfig& config;
  const models::ModelFormat& format;
  io::SafetensorsWriter& writer;
  models::CheckpointSource source;
};

/// A float tensor that quantization left alone.
Status copy_floats(Export& e, const std::string& name, const Shape& shape) {
  const auto tensor = e.source.get(name, kFloatDtypes, shape);
  if (!tensor) return tensor.error();
  if (tensor->dtype() == DType::kBF16) {
    const Status status = e.writer.append(name, *tensor);
    e.checkpoint.release(name);
    return status;
  }
  return e.writer.append(name, to_bf16(nn::to_float_vector(*tensor).data(), shape));
}

/// The linear's parts as dense tensors, with their biases.
Status append_linear(Export& e, const formats::WeightFormat& format,
                     const formats::LinearSpec& spec, const formats::FormatConfig* config) {
  const auto bound = format.bind(spec, config, e.source);
  if (!bound) return bound.error();
  const auto quantized = format.unpack(*bound);
  if (!quantized) return quantized.error();
  const Matrix dense = dense_weight(e.ctx.pool, *quantized);
  int64_t begin = 0;
  for (size_t i = 0; i < spec.parts.size(); ++i) {
    const std::string name = spec.prefix + spec.parts[i];
    const int64_t rows = spec.part_rows[i];
    Status status = e.writer.append(name + ".weight", to_bf16(dense.row(begin), {rows, spec.k}));
    if (status && spec.has_bias) {
      status = e.writer.append(name + ".bias", to_bf16(quantized->bias.data() + begin, {rows}));
    }
    if (!status) return status;
    begin += rows;
  }
  return {};
}

Status append_layer(Export& e, int64_t layer_idx) {
  for (const models::NormSpec& norm : models::llama_norm_specs(e.config, layer_idx)) {
    const Status status = copy_floats(e, norm.name, {norm.size});
    if (!status) return status;
  }
  for (const formats::LinearSpec& spec : models::llama_linear_specs(e.config, layer_idx)) {
    const Status status = append_linear(e, *e.format.weights, spec, e.format.config.get());
    if (!status) return status;
  }
  const std::string prefix = fmt::format("model.layers.{}.", layer_idx);
  for (const std::string& name : e.checkpoint.names()) {
    if (name.starts_with(prefix)) e.checkpoint.release(name);
  }
  return {};
}

/// Tied models without a head of their own have none to write.
Status append_lm_head(Export& e) {
  if (!e.checkpoint.contains(kLmHead) && e.config.tie_word_embeddings) return {};
  const Shape shape{e.config.vocab_size, e.config.hidden_size};
  if (e.format.lm_head->pack == nullptr) return copy_floats(e, std::string(kLmHead), shape);
  const formats::LinearSpec spec{
      "lm_head", "", {"lm_head"}, {e.config.vocab_size}, e.config.hidden_size, false};
  return append_linear(e, *e.format.lm_head, spec, nullptr);
}

Status append_tensors(Export& e, const ExportRequest& request) {
  Status status =
      copy_floats(e, std::string(kEmbedding), {e.config.vocab_size, e.config.hidden_size});
  for (int64_t i = 0; status && i < e.config.num_layers; ++i) {
    status = append_layer(e, i);
    if (status && request.on_layer) request.on_layer(i + 1);
  }
  if (status) status = copy_floats(e, "model.norm.weight", {e.config.hidden_size});
  return status ? append_lm_head(e) : status;
}

Json dense_config(const Export& e) {
  Json config = e.checkpoint.config();
  config.erase("quantization_config");
  config.erase("comet_kv_cache");
  const char* dtype_field = config.contains("dtype") ? "dtype" : "torch_dtype";
  config[dtype_field] = "bfloat16";
  // An output head of its own (--lm-head int8) is not the embedding table any more.
  if (e.checkpoint.contains(kLmHead)) config["tie_word_embeddings"] = false;
  return config;
}

Status check_disk(const io::ModelConfig& config, const std::string& out_dir) {
  int64_t values = 2 * config.vocab_size * config.hidden_size;
  for (const formats::LinearSpec& spec : models::llama_linear_specs(config, 0)) {
    values += config.num_layers * spec.n() * spec.k;
  }
  const auto free_bytes = io::free_disk_bytes(out_dir);
  if (!free_bytes) return free_bytes.error();
  if (static_cast<int64_t>(*free_bytes) >= 2 * values) return {};
  return make_error(ErrorCode::kResourceExhausted,
                    "{}: the dense model takes {} bytes, but only {} are free there; free some "
                    "space or choose another -o",
                    out_dir, 2 * values, *free_bytes);
}

}  // namespace

Result<int64_t> export_dense(Context& ctx, const io::Checkpoint& checkpoint,
                             const ExportRequest& request) {
  const auto config = io::parse_model_config(checkpoint.config(), checkpoint.config_path());
  if (!config) return config.error();
  const auto format = models::parse_model_format(*config, checkpoint.config_path());
  if (!format) return format.error();
  if (format->weights->pack == nullptr) {
    return make_error(ErrorCode::kInvalidArgument, "{}: this model is dense already",
                      checkpoint.config_path());
  }
  if (const Status status = check_disk(*config, request.out_dir); !status) return status.error();
  auto folder = OutputFolder::create(request.out_dir, checkpoint.directory(), request.force);
  if (!folder) return folder.error();
  auto writer = io::SafetensorsWriter::create(folder->path());
  if (!writer) return writer.error();
  Export e{ctx, checkpoint, *config, *format, *writer, models::CheckpointSource(checkpoint)};
  Status status = append_tensors(e, request);
  if (!status) return status.error();
  const auto files = writer->finish();
  if (!files) return files.error();
  status = io::write_file_atomic(folder->path() + "/config.json", dense_config(e).dump(2) + "\n");
  for (const char* name : kCompanionFiles) {
    if (status) status = folder->copy_if_present(checkpoint.directory(), name);
  }
  if (status) status = folder->publish();
  if (!status) return status.error();
  return static_cast<int64_t>(writer->payload_bytes());
}

}  // namespace comet::quant
