#include "comet/quant/export/synthetic_checkpoint.h"

#include <set>

#include "comet/io/file.h"
#include "comet/io/safetensors_writer.h"
#include "comet/models/synthetic/random_tensors.h"
#include "comet/quant/companion_files.h"
#include "comet/quant/output_folder.h"

namespace comet::quant {
namespace {

constexpr int64_t kHeaderRoomBytes = int64_t{16} << 20;  // headers, config.json, a tokenizer

/// Writes what a model asks for as it is bound, once; the order of asking is that of the file.
class WritingSource final : public formats::TensorSource {
 public:
  WritingSource(const formats::TensorSource& source, io::SafetensorsWriter& writer)
      : source_(source), writer_(writer) {}
  [[nodiscard]] bool contains(std::string_view name) const override {
    return source_.contains(name);
  }
  [[nodiscard]] Result<Tensor> get(std::string_view name, std::span<const DType> dtypes,
                                   const Shape& shape) const override {
    auto tensor = source_.get(name, dtypes, shape);
    if (!tensor || !written_.emplace(name).second) return tensor;
    const Status status = writer_.append(std::string(name), *tensor);
    if (!status) return status.error();
    return tensor;
  }

 private:
  const formats::TensorSource& source_;
  io::SafetensorsWriter& writer_;
  mutable std::set<std::string, std::less<>> written_;
};

Status check_disk(const std::string& out_dir, int64_t num_bytes) {
  const auto free_bytes = io::free_disk_bytes(out_dir);
  if (!free_bytes) return free_bytes.error();
  const int64_t needed = num_bytes + kHeaderRoomBytes;
  if (static_cast<int64_t>(*free_bytes) >= needed) return {};
  return make_error(ErrorCode::kResourceExhausted,
                    "{}: the model takes {} bytes, but only {} are free there; free some space or "
                    "choose another -o",
                    out_dir, needed, *free_bytes);
}

Status check_options(const models::SyntheticOptions& options) {
  if (!options.int8_lm_head || options.format == "w4ax") return {};
  return make_error(ErrorCode::kUnsupported,
                    "--lm-head int8: a checkpoint of {} cannot say so; use --format w4ax",
                    options.format);
}

/// Embedding, norm and head are those of a model without layers.
Status write_tensors(Context& ctx, const SyntheticCheckpointRequest& request,
                     const io::ModelConfig& config, const models::ModelFormat& format,
                     const formats::TensorSource& tensors) {
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const auto layer = models::LlamaLayer::load(config, i, format, tensors, ctx.caps);
    if (!layer) return layer.error();
    if (request.on_layer) request.on_layer(i + 1);
  }
  io::ModelConfig rest = config;
  rest.num_layers = 0;
  const auto model = models::LlamaModel::load(rest, format, tensors, ctx.caps);
  return model ? Status() : Status(model.error());
}

}  // namespace

Result<int64_t> write_synthetic_checkpoint(Context& ctx,
                                           const SyntheticCheckpointRequest& request) {
  COMET_CHECK(ctx.cuda == nullptr, "a checkpoint is written from memory of the host");
  Status status = check_options(request.options);
  if (!status) return status.error();
  const auto json = models::synthetic_config_json(request.name, request.options);
  if (!json) return json.error();
  const std::string source = fmt::format("synthetic {}", request.name);
  const auto config = io::parse_model_config(*json, source);
  if (!config) return config.error();
  const auto format = models::parse_model_format(*config, source);
  if (!format) return format.error();
  const models::RandomTensors random(ctx, *config, request.options);
  const auto num_bytes = models::synthetic_bytes(ctx, *config, *format, random);
  if (!num_bytes) return num_bytes.error();
  status = check_disk(request.out_dir, *num_bytes);
  if (!status) return status.error();

  auto folder = OutputFolder::create(request.out_dir, request.tokenizer_dir, request.force);
  if (!folder) return folder.error();
  auto writer = io::SafetensorsWriter::create(folder->path());
  if (!writer) return writer.error();
  status = write_tensors(ctx, request, *config, *format, WritingSource(random, *writer));
  if (!status) return status.error();
  const auto files = writer->finish();
  if (!files) return files.error();
  status = io::write_file_atomic(folder->path() + "/config.json", json->dump(2) + "\n");
  for (const char* file : kCompanionFiles) {
    if (status && !request.tokenizer_dir.empty()) {
      status = folder->copy_if_present(request.tokenizer_dir, file);
    }
  }
  if (status) status = folder->publish();
  if (!status) return status.error();
  return static_cast<int64_t>(writer->payload_bytes());
}

}  // namespace comet::quant
