// comet quantize MODEL -o OUT: a dense checkpoint becomes a W4AxKV4, W4A16 or W8A8 one. With
// --synthetic NAME in place of MODEL: one of random weights, for speed and memory figures.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "apps/comet/command.h"
#include "apps/comet/interrupt.h"
#include "apps/comet/quantize_method.h"
#include "comet/base/log.h"
#include "comet/base/progress.h"
#include "comet/io/file.h"
#include "comet/quant/export/synthetic_checkpoint.h"
#include "comet/quant/quantize_model.h"
#include "comet/study/perplexity.h"

namespace comet::cli {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;
constexpr int64_t kDefaultLength = 512;

struct Options {
  std::string model;
  std::string out;
  MethodOptions method;
  std::string calib;
  int64_t calib_samples = 32;
  std::optional<int64_t> calib_length;
  bool force = false;
  bool resume = false;
  std::string synthetic;
  std::string tokenizer;  // of a synthetic model
};

/// The packaged text: beside an installed binary, else of the source tree.
Result<std::string> packaged_calibration() {
  std::error_code code;
  const auto binary = std::filesystem::read_symlink("/proc/self/exe", code);
  const auto installed = binary.parent_path().parent_path() / "share/comet/calibration.txt";
  if (!code && std::filesystem::exists(installed, code)) return installed.string();
  const std::string source = COMET_SOURCE_DIR "/models/demo/calibration.txt";
  if (std::filesystem::exists(source, code)) return source;
  return make_error(ErrorCode::kNotFound,
                    "the packaged calibration text is missing ({}); give one by --calib FILE",
                    installed.string());
}

struct Texts {
  quant::CalibrationSet calibration;
  quant::GateSet gate;
};

/// `calibrates`: else all that is wanted of the text is its end, for the quality gate.
Result<Texts> cut_texts(const Options& options, const io::ModelConfig& config, bool calibrates) {
  std::string path = options.calib;
  if (path.empty()) {
    auto packaged = packaged_calibration();
    if (!packaged) return packaged.error();
    path = *packaged;
    log_info("{} the packaged text {}; a text of your own kind (--calib FILE) is better",
             calibrates ? "calibrating on" : "no calibration; the quality gate is", path);
  }
  const int64_t length =
      options.calib_length.value_or(std::min(kDefaultLength, config.max_position_embeddings));
  if (length > config.max_position_embeddings) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--calib-length {}: the model's context is {} tokens", length,
                      config.max_position_embeddings);
  }
  const auto text = io::read_file(path, kMaxTextBytes);
  if (!text) return text.error();
  const auto tokenizer = open_tokenizer(options.model);
  if (!tokenizer) return tokenizer.error();
  quant::Documents documents;
  for (const study::Document& document : study::split_documents(*text)) {
    documents.push_back(tokenizer->encode(document.scored, {true, false}));
  }
  Texts texts;
  if (calibrates) {
    auto set = quant::cut_calibration_windows(documents, options.calib_samples, length);
    if (!set) return Error{set.error().code, path + ": " + set.error().message};
    texts.calibration = *std::move(set);
    const auto num_samples = static_cast<int64_t>(texts.calibration.samples.size());
    if (num_samples < options.calib_samples) {
      log_warning("{}: gives only {} samples of {} tokens, not {}", path, num_samples, length,
                  options.calib_samples);
    }
  }
  // On a CPU the gate may not take longer than what it guards.
  constexpr int64_t kCalibrationTokensPerGateToken = 4;
  const int64_t num_tokens =
      calibrates ? texts.calibration.num_tokens() : options.calib_samples * length;
  const int64_t max_gate_tokens = std::min(
      quant::kMaxGateTokens, std::max(length, num_tokens / kCalibrationTokensPerGateToken));
  texts.gate = quant::cut_gate_windows(documents, length, max_gate_tokens);
  if (texts.gate.inputs.samples.empty()) {
    log_warning("{}: is too short to hold text back, so there is no quality gate", path);
  }
  return texts;
}

void print_report(const quant::QuantReport& report, const std::string& out) {
  const auto worst = std::min_element(
      report.linears.begin(), report.linears.end(),
      [](const auto& a, const auto& b) { return quant::snr_db(a) < quant::snr_db(b); });
  fmt::print("{}: {} of tensors in {:.1f} s\n", out, bytes_text(report.size_bytes), report.seconds);
  if (report.options.format == "w4ax") {
    fmt::print("4-bit activations {:.1f} % of multiply-accumulates, {:.1f} % of blocks\n",
               report.int4_activation_share() * 100, report.int4_block_share() * 100);
  }
  if (worst != report.linears.end()) {
    fmt::print("lowest {} SNR {:.1f} dB at {}\n", worst->output_snr_db ? "output" : "weight",
               quant::snr_db(*worst), worst->name);
  }
  if (report.gate) {
    fmt::print("held-back text, {} tokens: perplexity {:.5g} before, {:.5g} after; KL {:.4g}\n",
               report.gate->num_tokens, report.gate->perplexity_before,
               report.gate->perplexity_after, report.gate->kl_mean);
  }
}

int64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * int64_t{1024};
}

/// The layers that are left, from the moment that their number is known.
class LayerProgress {
 public:
  LayerProgress(int64_t num_layers, bool quiet) : num_layers_(num_layers), quiet_(quiet) {}
  void operator()(int64_t num_done) {
    if (bar_ != nullptr) {
      bar_->advance(1);
      return;
    }
    if (num_done > 0) log_info("resuming after {} of {} layers", num_done, num_layers_);
    bar_ = std::make_unique<Progress>("quantizing", num_layers_ - num_done, "layers", quiet_);
  }

 private:
  int64_t num_layers_;
  bool quiet_;
  std::unique_ptr<Progress> bar_;
};

Status write_result(const Globals& globals, const Options& options,
                    const quant::QuantReport& report) {
  if (const std::string warning = quant::gate_warning(report); !warning.empty()) {
    log_warning("{}", warning);
  }
  const int64_t peak_bytes = peak_memory_bytes();
  log_info("{}, peak memory {}", duration_text(report.seconds), bytes_text(peak_bytes));
  if (prints_text(globals)) print_report(report, options.out);
  Json result = quant::report_json(report);
  result["seconds"] = report.seconds;
  result["peak_memory_bytes"] = peak_bytes;
  return write_json_result(globals, "quantize", result);
}

Status run_quantize(const Globals& globals, const Options& options) {
  Interrupt interrupt;
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  const auto checkpoint = io::Checkpoint::open(options.model);
  if (!checkpoint) return checkpoint.error();
  const auto config = io::parse_model_config(checkpoint->config(), checkpoint->config_path());
  if (!config) return config.error();
  const auto chosen = quantize_options(options.method, *config, ctx.caps);
  if (!chosen) return chosen.error();
  if (prints_text(globals)) fmt::print("recipe {}, cache {}\n", describe(*chosen), chosen->kv);
  auto texts = cut_texts(options, *config, quant::needs_calibration(*chosen));
  if (!texts) return texts.error();
  const quant::CalibrationSet& set = texts->calibration;
  const quant::QuantizeForecast wanted =
      quant::forecast(*checkpoint, *config, *chosen, set, texts->gate.inputs.num_tokens());
  log_info(
      "{} samples, {} tokens; about {}, at most {} of memory and {} of disk", set.samples.size(),
      set.num_tokens(), duration_text(wanted.seconds(quant::measure_flops_per_second(ctx))),
      bytes_text(wanted.peak_memory_bytes), bytes_text(wanted.output_bytes + wanted.scratch_bytes));
  LayerProgress progress(config->num_layers, globals.quiet);
  const quant::QuantizeRequest request{.options = *chosen,
                                       .out_dir = options.out,
                                       .force = options.force,
                                       .on_layer = [&](int64_t done) { progress(done); },
                                       .gate = std::move(texts->gate),
                                       .resume = options.resume,
                                       .should_stop = [&] { return interrupt.requested(); }};
  interrupt.begin_steps(
      "stopping behind this layer; once more to stop at once (finished layers are kept)");
  const auto report = quant::quantize_model(ctx, *checkpoint, request, set);
  if (!report) return report.error();
  return write_result(globals, options, *report);
}

models::SyntheticOptions synthetic_options(const quant::QuantizeOptions& chosen, uint64_t seed) {
  models::SyntheticOptions options;
  options.format = chosen.format;
  options.kv = chosen.kv;
  options.kv_options = chosen.kv_options;
  options.granularity = chosen.granularity;
  options.act_scale = chosen.act_scale;
  options.int8_share = chosen.int8_share;
  options.int8_blocks = chosen.int8_blocks;
  options.int8_lm_head = chosen.int8_lm_head;
  options.seed = seed;
  return options;
}

/// Random weights are drawn and written by the CPU, whatever the device: the disk is the bound.
Status run_synthetic(const Globals& globals, const Options& options) {
  const auto config = models::synthetic_config(options.synthetic);
  if (!config) return config.error();
  Globals on_cpu = globals;
  on_cpu.device = "cpu";
  auto runtime = make_runtime(on_cpu);
  if (!runtime) return runtime.error();
  const auto chosen = quantize_options(options.method, *config, (*runtime)->context().caps);
  if (!chosen) return chosen.error();
  const Stopwatch stopwatch;
  Progress progress("writing", config->num_layers, "layers", globals.quiet);
  const auto num_bytes = quant::write_synthetic_checkpoint(
      (*runtime)->context(), {.name = options.synthetic,
                              .options = synthetic_options(*chosen, globals.seed),
                              .out_dir = options.out,
                              .force = options.force,
                              .tokenizer_dir = options.tokenizer,
                              .on_layer = [&](int64_t) { progress.advance(1); }});
  if (!num_bytes) return num_bytes.error();
  const double seconds = stopwatch.seconds();
  if (prints_text(globals)) {
    fmt::print("{}: {} of random weights in {:.1f} s\n", options.out, bytes_text(*num_bytes),
               seconds);
  }
  return write_json_result(globals, "quantize",
                           {{"synthetic", options.synthetic},
                            {"format", chosen->format},
                            {"kv", chosen->kv},
                            {"size_bytes", *num_bytes},
                            {"seconds", seconds},
                            {"peak_memory_bytes", peak_memory_bytes()}});
}

}  // namespace

void add_quantize(CLI::App& app, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("quantize", "Make a 4-bit or 8-bit model");
  auto* model = command.add_option("MODEL", options->model, "Model folder");
  command.add_option("-o,--out", options->out, "Folder to make")->required();
  add_method_options(command, options->method);
  command.add_option("--calib", options->calib,
                     "Calibration text; documents end with a line <|endoftext|>");
  command.add_option("--calib-samples", options->calib_samples, "Windows of calibration text")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command
      .add_option("--calib-length", options->calib_length,
                  "Tokens of a window (default: 512 or the context)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  command.add_flag("--force", options->force, "Replace OUT");
  command.add_flag("--resume", options->resume,
                   "Go on where an interrupted run of the same command stopped");
  auto* synthetic = command.add_option(
      "--synthetic", options->synthetic,
      "In place of MODEL, random weights of a published shape: " + models::synthetic_names());
  for (const char* flag : {"--calib", "--calib-samples", "--calib-length", "--resume"}) {
    synthetic->excludes(command.get_option(flag));
  }
  command
      .add_option("--tokenizer", options->tokenizer,
                  "Folder whose tokenizer and chat template a synthetic model gets")
      ->needs(synthetic);
  command.callback([&globals, &action, options, model, synthetic] {
    if (model->count() + synthetic->count() != 1) {
      throw CLI::ValidationError("quantize", "give a MODEL folder or --synthetic NAME");
    }
    const auto run = synthetic->count() == 1 ? run_synthetic : run_quantize;
    action = [&globals, options, run] { return run(globals, *options); };
  });
}

}  // namespace comet::cli
