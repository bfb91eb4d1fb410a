#include "comet/quant/quantize_model.h"

#include <array>
#include <cmath>

#include "comet/base/clock.h"
#include "comet/base/log.h"
#include "comet/io/file.h"
#include "comet/quant/blocks/block_planner.h"
#include "comet/quant/checkpoint_writer.h"
#include "comet/quant/companion_files.h"
#include "comet/quant/output_folder.h"
#include "comet/quant/run/run_fingerprint.h"
#include "comet/quant/run/run_state.h"

namespace comet::quant {
namespace {

Status check_source(const io::Checkpoint& checkpoint, const io::ModelConfig& config) {
  if (config.quantization_config == nullptr) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "{}: this model is quantized already; quantize its original",
                    checkpoint.config_path());
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

/// What the stages of one run share.
struct Run {
  Backend& backend;
  const io::Checkpoint& checkpoint;
  const QuantizeRequest& request;
  const CalibrationSet& set;
  const io::ModelConfig& config;
  BlockPlan plan;
  CheckpointWriter& writer;
  RunState& state;
  std::string partial;  // the folder of what is finished
  std::optional<QualityGate> gate = std::nullopt;
  Matrix hidden = {};  // behind the finished layers
  int64_t num_done = 0;
  bool interrupted = false;
  QuantReport report = {};
};

/// Where `saved` left off, or the beginning.
Status prepare(Run& run, const std::optional<SavedRun>& saved) {
  run.report.options = run.request.options;
  run.report.num_calibration_samples = static_cast<int64_t>(run.set.samples.size());
  run.report.num_calibration_tokens = run.set.num_tokens();
  const models::CheckpointSource source(run.checkpoint);
  auto hidden = embed_samples(run.backend.host, source, run.config, run.set);
  if (!hidden) return hidden.error();
  run.hidden = *std::move(hidden);
  if (!run.request.gate.inputs.samples.empty()) {
    auto gate = QualityGate::create(run.backend.host, run.checkpoint, run.config, run.request.gate);
    if (!gate) return Error{gate.error().code, "the quality gate's text: " + gate.error().message};
    run.gate = *std::move(gate);
  }
  if (!saved) return {};
  const size_t num_activations = run.gate ? 3 : 1;
  if (saved->activations.size() != num_activations || saved->num_layers > run.config.num_layers) {
    return make_error(
        ErrorCode::kCorrupt,
        "the state of the interrupted run holds {} activations after {} layers; leave "
        "--resume out to begin anew",
        saved->activations.size(), saved->num_layers);
  }
  run.num_done = saved->num_layers;
  run.hidden = saved->activations[0];
  if (run.gate) {
    run.gate->original_hidden = saved->activations[1];
    run.gate->quantized_hidden = saved->activations[2];
  }
  for (const Json& row : saved->parts.value("linears", Json::array())) {
    run.report.linears.push_back(linear_from_json(row));
  }
  return {};
}

Status save(Run& run) {
  auto writer = run.writer.save_point();
  if (!writer) return writer.error();
  Json linears = Json::array();
  for (const LinearReport& linear : run.report.linears) linears.push_back(linear_json(linear));
  std::vector<const Matrix*> activations{&run.hidden};
  if (run.gate) {
    activations.push_back(&run.gate->original_hidden);
    activations.push_back(&run.gate->quantized_hidden);
  }
  const Json parts = {{"writer", *std::move(writer)},
                      {"linears", std::move(linears)},
                      {"int8_blocks", block_plan_json(run.plan)}};
  return run.state.save(run.num_done, parts, activations);
}

/// Quantizes, writes and runs layer run.num_done.
Status quantize_next_layer(Run& run) {
  const int64_t i = run.num_done;
  const models::CheckpointSource source(run.checkpoint);
  auto layer = load_layer_weights(source, run.config, i);
  if (!layer) return layer.error();
  release_layer(run.checkpoint, i);
  Stopwatch stopwatch;
  LayerStage stage{run.backend, run.request.options, run.config,
                   run.set,     run.hidden,          *std::move(layer)};
  auto quantized = quantize_layer(std::move(stage), run.plan.layers[i]);
  if (!quantized) return quantized.error();
  const double quantize_seconds = stopwatch.seconds();
  run.report.linears.insert(run.report.linears.end(), quantized->reports.begin(),
                            quantized->reports.end());
  Context& device = run.backend.device;
  auto bound = run.writer.append_layer(device.caps, i, *std::move(quantized));
  if (!bound) return bound.error();
  if (Status moved = bound->move_to_device(device); !moved) return moved;
  stopwatch.restart();
  const kv::KvOptions& kv_options = run.request.options.kv_options;
  const LayerRun layer_run{run.config, run.set, run.writer.kv_format(), kv_options};
  const Status ran = run_layer(run.backend, *bound, layer_run, run.hidden, /*update=*/true);
  if (!ran) return ran;
  if (!all_finite(run.hidden)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "model.layers.{}: the quantized layer gives NaN or infinite activations on "
                      "the calibration text; try --format w4ax --recipe w4a8",
                      i);
  }
  const double run_seconds = stopwatch.seconds();
  stopwatch.restart();
  if (run.gate) {
    const Status status =
        run.gate->advance(run.backend, i, *bound, run.writer.kv_format(), kv_options);
    if (!status) return status;
    release_layer(run.checkpoint, i);
  }
  log_debug("layer {}: quantized in {:.1f} s, run in {:.1f} s, gate {:.1f} s", i, quantize_seconds,
            run_seconds, stopwatch.seconds());
  ++run.num_done;
  return save(run);
}

Status quantize_layers(Run& run) {
  const QuantizeRequest& request = run.request;
  if (request.on_layer) request.on_layer(run.num_done);
  while (run.num_done < run.config.num_layers) {
    if (const Status status = quantize_next_layer(run); !status) return status;
    if (request.on_layer) request.on_layer(run.num_done);
    if (request.should_stop && request.should_stop()) {
      run.interrupted = true;
      return make_error(ErrorCode::kIo,
                        "interrupted after {} of {} layers, which {} keeps; the same command with "
                        "--resume goes on from there",
                        run.num_done, run.config.num_layers, run.partial);
    }
  }
  return {};
}

Status write_config(const Run& run, const OutputFolder& folder) {
  Json config = run.checkpoint.config();
  const Json quantization = run.writer.quantization_config();
  config["quantization_config"] = quantization;
  // Comet's own format keeps the cache in its manifest, the others beside it.
  if (!quantization.contains("kv_cache")) config["comet_kv_cache"] = run.writer.kv_cache();
  Status status = io::write_file_atomic(folder.path() + "/config.json", config.dump(2) + "\n");
  for (const char* name : kCompanionFiles) {
    if (status) status = folder.copy_if_present(run.checkpoint.directory(), name);
  }
  return status;
}

/// What comes after the last layer: the rest of the tensors, config, gate, report.
Status complete(Run& run, OutputFolder& folder) {
  const auto size_bytes = run.writer.finish();
  if (!size_bytes) return size_bytes.error();
  run.report.size_bytes = *size_bytes;
  Status status = write_config(run, folder);
  if (!status) return status;
  if (run.gate) {
    const auto written = io::Checkpoint::open(folder.path());
    if (!written) return written.error();
    const Stopwatch stopwatch;
    const auto result = run.gate->score(run.backend.host, *written);
    if (!result) return result.error();
    log_debug("quality gate scored in {:.1f} s", stopwatch.seconds());
    run.report.gate = *result;
  }
  status = io::write_file_atomic(folder.path() + "/quant_report.json",
                                 report_json(run.report).dump(2) + "\n");
  if (!status) return status;
  status = run.state.remove();
  return status ? folder.publish() : status;
}

/// The state that `resume` finds; what is wrong with it leaves the folder as it is.
Result<std::optional<SavedRun>> find_state(const QuantizeRequest& request, const RunState& state,
                                           OutputFolder& folder) {
  if (!request.resume) return std::optional<SavedRun>();
  auto saved = state.load();
  if (!saved) folder.keep();
  return saved;
}

/// The interrupted run's plan, or one made now.
Result<BlockPlan> find_plan(Context& ctx, const io::Checkpoint& checkpoint,
                            const QuantizeRequest& request, const CalibrationSet& set,
                            const std::optional<SavedRun>& saved) {
  if (saved) {
    return block_plan_from_json(saved->parts.value("int8_blocks", Json()), checkpoint);
  }
  return plan_blocks(ctx, checkpoint, request.options, set, [&](int64_t layer_idx) -> Status {
    log_debug("layer {}: planned", layer_idx);
    if (!request.should_stop || !request.should_stop()) return {};
    return make_error(ErrorCode::kIo, "interrupted while planning INT8 blocks, before any layer");
  });
}

}  // namespace

Result<QuantReport> quantize_model(Context& ctx, const io::Checkpoint& checkpoint,
                                   const QuantizeRequest& request, const CalibrationSet& text) {
  const Stopwatch stopwatch;
  const CalibrationSet set = needs_calibration(request.options) ? text : CalibrationSet();
  const auto config = io::parse_model_config(checkpoint.config(), checkpoint.config_path());
  if (!config) return config.error();
  const auto fixed = fixed_block_plan(request.options, *config);
  const QuantizeForecast wanted =
      forecast(checkpoint, *config, request.options, set, request.gate.inputs.num_tokens());
  for (const Status& status :
       {check_source(checkpoint, *config), check_options(request.options, *config),
        fixed ? Status() : Status(fixed.error()),
        needs_calibration(request.options) ? check_calibration(set, *config) : Status(),
        check_resources(wanted, request.out_dir, request.resume)}) {
    if (!status) return status.error();
  }
  const auto backend = make_backend(ctx);
  const Status has_room = check_device_memory(wanted, backend->free_device_bytes());
  if (!has_room) return has_room.error();
  auto folder =
      OutputFolder::create(request.out_dir, checkpoint.directory(), request.force, request.resume);
  if (!folder) return folder.error();
  RunState state(folder->path(),
                 run_fingerprint(ctx, checkpoint, request.options, set, request.gate));
  const auto saved = find_state(request, state, *folder);
  if (!saved) return saved.error();
  if (request.resume && !*saved) {
    // Less than one layer, or nothing at all.
    const Status emptied = folder->clear();
    if (!emptied) return emptied.error();
  }
  auto writer =
      *saved ? CheckpointWriter::continue_from(folder->path(), checkpoint, *config, request.options,
                                               (*saved)->parts.value("writer", Json()))
             : CheckpointWriter::create(folder->path(), checkpoint, *config, request.options);
  if (!writer) {
    if (*saved) folder->keep();
    return writer.error();
  }
  auto plan = find_plan(backend->host, checkpoint, request, set, *saved);
  if (!plan) return plan.error();
  Run run{*backend,         checkpoint, request, set,           *config,
          *std::move(plan), *writer,    state,   folder->path()};
  Status status = prepare(run, *saved);
  if (status) status = quantize_layers(run);
  if (run.interrupted) {
    writer->keep_files();
    folder->keep();
  }
  if (status) status = complete(run, *folder);
  if (!status) return status.error();
  run.report.seconds = stopwatch.seconds();
  return std::move(run.report);
}

}  // namespace comet::quant
