#include "comet/quant/quantize_model.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "comet/base/clock.h"
#include "comet/io/file.h"
#include "comet/io/safetensors_writer.h"
#include "comet/quant/checkpoint_writer.h"
#include "comet/quant/output_folder.h"

namespace comet::quant {
namespace {

constexpr std::array kCompanionFiles{"tokenizer.json",
                                     "tokenizer.model",
                                     "tokenizer_config.json",
                                     "vocab.json",
                                     "merges.txt",
                                     "special_tokens_map.json",
                                     "added_tokens.json",
                                     "generation_config.json",
                                     "chat_template.jinja"};

Status check_source(const io::Checkpoint& checkpoint, const io::ModelConfig& config) {
  if (config.quantization_config == nullptr) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "{}: this model is quantized already; quantize its original",
                    checkpoint.config_path());
}

Status check_resources(const QuantizeForecast& wanted, const std::string& out_dir) {
  const auto disk = io::free_disk_bytes(out_dir);
  if (!disk) return disk.error();
  if (static_cast<int64_t>(*disk) < wanted.output_bytes) {
    return make_error(ErrorCode::kResourceExhausted,
                      "{}: the quantized model takes {} bytes, but only {} are free there; free "
                      "some space or choose another -o",
                      out_dir, wanted.output_bytes, *disk);
  }
  const auto memory = io::available_memory_bytes();
  if (!memory) return memory.error();
  if (static_cast<int64_t>(*memory) < wanted.peak_memory_bytes) {
    return make_error(ErrorCode::kResourceExhausted,
                      "quantizing takes about {} bytes of memory, but only {} are available; use "
                      "fewer or shorter calibration samples, or --weights clip",
                      wanted.peak_memory_bytes, *memory);
  }
  return {};
}

void release_layer(const io::Checkpoint& checkpoint, int64_t layer_idx) {
  const std::string prefix = fmt::format("model.layers.{}.", layer_idx);
  for (const std::string& name : checkpoint.names()) {
    if (name.starts_with(prefix)) checkpoint.release(name);
  }
}

bool all_finite(const Matrix& m) {
  return std::all_of(m.values.begin(), m.values.end(), [](float x) { return std::isfinite(x); });
}

/// Quantizes, writes and runs every layer in turn.
Status quantize_layers(Context& ctx, const io::Checkpoint& checkpoint,
                       const QuantizeRequest& request, const CalibrationSet& set,
                       CheckpointWriter& writer, QuantReport& report) {
  const io::ModelConfig& config = writer.config();
  const models::CheckpointSource source(checkpoint);
  auto hidden = embed_samples(ctx, source, config, set);
  if (!hidden) return hidden.error();
  const LayerRun run{config, set, writer.kv_format(), request.options.kv_options};
  for (int64_t i = 0; i < config.num_layers; ++i) {
    auto layer = load_layer_weights(source, config, i);
    if (!layer) return layer.error();
    release_layer(checkpoint, i);
    auto quantized = quantize_layer(ctx, request.options, config, set, *hidden, *std::move(layer));
    if (!quantized) return quantized.error();
    report.linears.insert(report.linears.end(), quantized->reports.begin(),
                          quantized->reports.end());
    auto bound = writer.append_layer(ctx.caps, i, *std::move(quantized));
    if (!bound) return bound.error();
    const Status ran = run_layer(ctx, *bound, run, *hidden, /*update=*/true);
    if (!ran) return ran;
    if (!all_finite(*hidden)) {
      return make_error(ErrorCode::kInvalidArgument,
                        "model.layers.{}: the quantized layer gives NaN or infinite activations on "
                        "the calibration text; try --recipe w4a8",
                        i);
    }
    if (request.on_layer) request.on_layer(i + 1);
  }
  return {};
}

Status write_files(const io::Checkpoint& checkpoint, const OutputFolder& folder,
                   const CheckpointWriter& writer, const QuantReport& report) {
  Json config = checkpoint.config();
  config["quantization_config"] = writer.quantization_config();
  Status status = io::write_file_atomic(folder.path() + "/config.json", config.dump(2) + "\n");
  if (!status) return status;
  for (const char* name : kCompanionFiles) {
    status = folder.copy_if_present(checkpoint.directory(), name);
    if (!status) return status;
  }
  return io::write_file_atomic(folder.path() + "/quant_report.json",
                               report_json(report).dump(2) + "\n");
}

}  // namespace

QuantizeForecast forecast(const io::Checkpoint& checkpoint, const io::ModelConfig& config,
                          const QuantizeOptions& options, const CalibrationSet& set) {
  int64_t layer_weights = 0;
  int64_t layer_packed_bytes = 0;
  int64_t hessian_bytes = 0;
  int64_t widest = 0;
  for (const formats::LinearSpec& spec : models::llama_linear_specs(config, 0)) {
    const int64_t k_padded = (spec.k + formats::kBlock - 1) / formats::kBlock * formats::kBlock;
    int64_t rows = 0;
    for (const int64_t part : spec.part_rows) rows += (part + 127) / 128 * 128;
    layer_weights += rows * k_padded;
    // Nibbles, at most two bytes of scales per group, a channel scale, a permutation.
    layer_packed_bytes += rows * k_padded / 2 + rows * k_padded / 64 + rows * 4 + k_padded * 4;
    // Sum and, per chunk of 2,048 tokens, inputs.
    if (options.weights == "gptq") hessian_bytes += k_padded * (k_padded * 8 + 2048 * 4);
    widest = std::max(widest, k_padded);
  }
  int64_t other_bytes = 0;
  for (const std::string& name : checkpoint.names()) {
    if (!name.starts_with("model.layers.")) {
      other_bytes += static_cast<int64_t>(checkpoint.find(name)->num_bytes);
    }
  }
  const int64_t lm_head_bytes =
      options.int8_lm_head ? config.vocab_size * (config.hidden_size + 4) : 0;
  constexpr int64_t kSmallFiles = int64_t{64} << 20;  // tokenizer, manifest, report: generous
  QuantizeForecast result;
  result.output_bytes =
      other_bytes + lm_head_bytes + config.num_layers * layer_packed_bytes + kSmallFiles;
  // The layer in FP32, and of its largest linear the stored, coded and decoded forms: under four
  // times the layer; Hessians, and while one is factored two more of the widest.
  result.peak_memory_bytes = 16 * layer_weights + hessian_bytes + 2 * widest * widest * 8 +
                             4 * set.num_tokens() * config.hidden_size;
  return result;
}

Result<QuantReport> quantize_model(Context& ctx, const io::Checkpoint& checkpoint,
                                   const QuantizeRequest& request, const CalibrationSet& set) {
  const Stopwatch stopwatch;
  const auto config = io::parse_model_config(checkpoint.config(), checkpoint.config_path());
  if (!config) return config.error();
  const auto blocks = plan_layer_blocks(request.options, *config);
  for (const Status& status :
       {check_source(checkpoint, *config), check_options(request.options, *config),
        blocks ? Status() : Status(blocks.error()), check_calibration(set, *config),
        check_resources(forecast(checkpoint, *config, request.options, set), request.out_dir)}) {
    if (!status) return status.error();
  }
  auto folder = OutputFolder::create(request.out_dir, checkpoint.directory(), request.force);
  if (!folder) return folder.error();
  auto writer = CheckpointWriter::create(folder->path(), checkpoint, *config, request.options);
  if (!writer) return writer.error();

  QuantReport report;
  report.options = request.options;
  report.num_calibration_samples = static_cast<int64_t>(set.samples.size());
  report.num_calibration_tokens = set.num_tokens();
  Status status = quantize_layers(ctx, checkpoint, request, set, *writer, report);
  if (!status) return status.error();
  const auto size_bytes = writer->finish();
  if (!size_bytes) return size_bytes.error();
  report.size_bytes = *size_bytes;
  status = write_files(checkpoint, *folder, *writer, report);
  if (!status) return status.error();
  status = folder->publish();
  if (!status) return status.error();
  report.seconds = stopwatch.seconds();
  return report;
}

}  // namespace comet::quant
