#include "comet/quant/export/export_model.h"

#include "comet/formats/schemes/bind_linear.h"
#include "comet/io/file.h"
#include "comet/nn/rms_norm.h"
#include "comet/quant/companion_files.h"
#include "comet/quant/export/dense_weight.h"
#include "comet/quant/output_folder.h"

namespace comet::quant {
namespace {

constexpr std::array kFloatDtypes{DType::kBF16, DType::kF16, DType::kF32};
constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
constexpr std::string_view kLmHead = "lm_head.weight";

Status copy_floats(Export& e, ExportTarget& target, const std::string& name, const Shape& shape) {
  const auto tensor = e.source.get(name, kFloatDtypes, shape);
  if (!tensor) return tensor.error();
  const Status status = target.append_floats(e, name, *tensor);
  e.checkpoint.release(name);
  return status;
}

Status copy_layer(Export& e, ExportTarget& target, int64_t layer_idx) {
  for (const models::NormSpec& norm : models::llama_norm_specs(e.config, layer_idx)) {
    const Status status = copy_floats(e, target, norm.name, {norm.size});
    if (!status) return status;
  }
  for (const formats::LinearSpec& spec : models::llama_linear_specs(e.config, layer_idx)) {
    const auto bound =
        formats::bind_linear(spec, *e.format.weights, e.format.config.get(), e.source);
    if (!bound) return bound.error();
    const Status status = target.append_linear(e, *bound);
    if (!status) return status;
  }
  const std::string prefix = fmt::format("model.layers.{}.", layer_idx);
  for (const std::string& name : e.checkpoint.names()) {
    if (name.starts_with(prefix)) e.checkpoint.release(name);
  }
  return {};
}

/// Tied models without a head of their own have none to write; one that is quantized comes out
/// dense, as both forms want it.
Status copy_lm_head(Export& e, ExportTarget& target) {
  const formats::LinearSpec spec{
      "lm_head", "", {"lm_head"}, {e.config.vocab_size}, e.config.hidden_size, false};
  if (e.format.lm_head->pack != nullptr) {
    const auto bound =
        formats::bind_linear(spec, *e.format.lm_head, e.format.lm_head_config.get(), e.source);
    return bound ? append_dense_linear(e, *bound) : bound.error();
  }
  if (!e.checkpoint.contains(kLmHead) && e.config.tie_word_embeddings) return {};
  return copy_floats(e, target, std::string(kLmHead), {e.config.vocab_size, e.config.hidden_size});
}

Status copy_tensors(Export& e, ExportTarget& target, const ExportRequest& request) {
  Status status =
      copy_floats(e, target, std::string(kEmbedding), {e.config.vocab_size, e.config.hidden_size});
  for (int64_t i = 0; status && i < e.config.num_layers; ++i) {
    status = copy_layer(e, target, i);
    if (status && request.on_layer) request.on_layer(i + 1);
  }
  if (status) status = copy_floats(e, target, "model.norm.weight", {e.config.hidden_size});
  return status ? copy_lm_head(e, target) : status;
}

Status check_disk(int64_t bytes, const std::string& out_dir) {
  const auto free_bytes = io::free_disk_bytes(out_dir);
  if (!free_bytes) return free_bytes.error();
  if (static_cast<int64_t>(*free_bytes) >= bytes) return {};
  return make_error(ErrorCode::kResourceExhausted,
                    "{}: the exported model takes {} bytes, but only {} are free there; free some "
                    "space or choose another -o",
                    out_dir, bytes, *free_bytes);
}

}  // namespace

Tensor to_bf16(const float* values, const Shape& shape) {
  const int64_t size = shape.num_elements();
  Tensor tensor(std::make_shared<Storage>(host_allocator(), static_cast<size_t>(size) * 2), 0,
                DType::kBF16, shape);
  for (int64_t i = 0; i < size; ++i) tensor.data<BFloat16>()[i] = to_bfloat16(values[i]);
  return tensor;
}

Status append_dense_linear(Export& e, const formats::LinearWeight& weight) {
  const formats::LinearSpec& spec = weight.spec;
  const auto quantized = weight.format->unpack(weight);
  if (!quantized) return quantized.error();
  const Matrix dense = dense_weight(e.ctx.pool, *quantized);
  int64_t begin = 0;
  for (size_t i = 0; i < spec.parts.size(); ++i) {
    const std::string name = spec.prefix + spec.parts[i];
    const int64_t rows = spec.part_rows[i];
    Status status = e.writer->append(name + ".weight", to_bf16(dense.row(begin), {rows, spec.k}));
    if (status && spec.has_bias) {
      status = e.writer->append(name + ".bias", to_bf16(quantized->bias.data() + begin, {rows}));
    }
    if (!status) return status;
    begin += rows;
  }
  return {};
}

Result<Export> start_export(Context& ctx, const io::Checkpoint& checkpoint) {
  auto config = io::parse_model_config(checkpoint.config(), checkpoint.config_path());
  if (!config) return config.error();
  auto format = models::parse_model_format(*config, checkpoint.config_path());
  if (!format) return format.error();
  return Export{ctx,
                checkpoint,
                *std::move(config),
                *std::move(format),
                models::CheckpointSource(checkpoint),
                nullptr};
}

Result<int64_t> export_model(Export& e, ExportTarget& target, const ExportRequest& request) {
  if (const Status s = check_disk(target.bytes_needed(e), request.out_dir); !s) return s.error();
  auto folder = OutputFolder::create(request.out_dir, e.checkpoint.directory(), request.force);
  if (!folder) return folder.error();
  auto writer = io::SafetensorsWriter::create(folder->path());
  if (!writer) return writer.error();
  e.writer = &*writer;
  Status status = copy_tensors(e, target, request);
  if (!status) return status.error();
  const auto files = writer->finish();
  if (!files) return files.error();
  status = io::write_file_atomic(folder->path() + "/config.json", target.config(e).dump(2) + "\n");
  for (const char* name : kCompanionFiles) {
    if (status) status = folder->copy_if_present(e.checkpoint.directory(), name);
  }
  if (status) status = folder->publish();
  if (!status) return status.error();
  return static_cast<int64_t>(writer->payload_bytes());
}

}  // namespace comet::quant
