// comet quantize MODEL -o OUT: a dense checkpoint becomes a W4AxKV4 or a W4A16 one.
#include <sys/resource.h>

#include <cstdio>
#include <filesystem>
#include <optional>

#include "apps/comet/command.h"
#include "apps/comet/interrupt.h"
#include "comet/base/log.h"
#include "comet/base/progress.h"
#include "comet/io/file.h"
#include "comet/quant/quantize_model.h"
#include "comet/study/perplexity.h"

namespace comet::cli {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;
constexpr int64_t kDefaultLength = 512;

struct Options {
  std::string model;
  std::string out;
  std::string format = "w4ax";
  std::string recipe = "auto";
  std::string target = "auto";
  std::string calib;
  int64_t calib_samples = 32;
  std::optional<int64_t> calib_length;
  bool force = false;
  // Overrides of the recipe.
  std::optional<std::string> weights, w4, act_scale, kv, lm_head, equalize, kv_smooth, kv_rotate,
      kv_rotate_values;
  std::vector<int64_t> kv_window;  // empty, or first and recent tokens
  std::optional<double> damp, int8_share;
  std::optional<int64_t> int8_blocks;
  std::string int8_rule = "fixed";
  std::string smooth = "off";  // known, and not there yet: anything else is refused
  bool resume = false;
};

Error not_yet(const std::string& flag, std::string_view instead) {
  return make_error(ErrorCode::kUnsupported, "{}: this version of Comet cannot do it; {}", flag,
                    instead);
}

/// Flags that decide what only w4ax has.
Status refuse_w4ax_flags(const Options& options) {
  if (options.format == "w4ax") return {};
  const std::array flags{std::pair{"--recipe", options.recipe != "auto"},
                         std::pair{"--w4", options.w4.has_value()},
                         std::pair{"--act-scale", options.act_scale.has_value()},
                         std::pair{"--int8-share", options.int8_share.has_value()},
                         std::pair{"--int8-blocks", options.int8_blocks.has_value()},
                         std::pair{"--int8-rule", options.int8_rule != "fixed"},
                         std::pair{"--lm-head int8", options.lm_head.value_or("bf16") == "int8"}};
  for (const auto& [flag, given] : flags) {
    if (!given) continue;
    return make_error(ErrorCode::kInvalidArgument, "{}: belongs to --format w4ax, not to {}", flag,
                      options.format);
  }
  return {};
}

Status refuse_unsupported(const Options& options) {
  if (options.format != "w4ax" && options.format != "w4a16") {
    return not_yet("--format " + options.format, "it writes w4ax and w4a16");
  }
  if (const Status status = refuse_w4ax_flags(options); !status) return status;

  if (options.smooth != "off") {
    return not_yet("--smooth " + options.smooth, "w4ax has its equalizer instead (--equalize)");
  }
  return {};
}

/// Flags that ask something of a BF16 cache that only a narrow one can give.
Status refuse_cache_flags(const Options& options, const std::string& kv) {
  if (kv != "kv16") return {};
  const std::array flags{std::pair{"--kv-rotate on", options.kv_rotate == "on"},
                         std::pair{"--kv-rotate-values on", options.kv_rotate_values == "on"},
                         std::pair{"--kv-smooth on", options.kv_smooth == "on"},
                         std::pair{"--kv-window", !options.kv_window.empty()}};
  for (const auto& [flag, given] : flags) {
    if (!given) continue;
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: the cache is kv16, whose rows are BF16 already; choose --kv kv4 or kv8",
                      flag);
  }
  return {};
}

Result<quant::QuantizeOptions> quantize_options(const Options& options,
                                                const io::ModelConfig& config) {
  const std::string& recipe = options.format == "w4ax" ? options.recipe : options.format;
  auto chosen = quant::options_of_recipe(recipe, options.target, false);
  if (!chosen) return chosen.error();
  if (options.weights) chosen->weights = *options.weights;
  if (options.damp) chosen->damp = *options.damp;
  if (options.damp && chosen->weights != "gptq") {
    return make_error(ErrorCode::kInvalidArgument,
                      "--damp: belongs to --weights gptq; here weights are made by {}",
                      chosen->weights);
  }
  if (options.kv) chosen->kv = *options.kv;
  if (const Status status = refuse_cache_flags(options, chosen->kv); !status) {
    return status.error();
  }
  quant::fit_cache_options(*chosen, config);
  quant::fit_scale_type(*chosen, config);
  if (options.kv_rotate) chosen->kv_options.rotate = *options.kv_rotate == "on";
  if (options.kv_rotate_values) chosen->rotate_values = *options.kv_rotate_values == "on";
  if (options.kv_window.size() == 2) {
    chosen->kv_options.window_first = options.kv_window[0];
    chosen->kv_options.window_recent = options.kv_window[1];
  }
  if (options.lm_head) chosen->int8_lm_head = *options.lm_head == "int8";
  if (options.equalize) chosen->equalize = *options.equalize == "on";
  if (options.kv_smooth) chosen->smooth_keys = *options.kv_smooth == "on";
  if (options.int8_share) chosen->int8_share = options.int8_share;
  if (options.int8_blocks) {
    chosen->int8_share.reset();
    chosen->int8_blocks = *options.int8_blocks;
  }
  for (const auto rule : {quant::BlockRule::kError, quant::BlockRule::kKl}) {
    if (options.int8_rule != quant::block_rule_name(rule)) continue;
    chosen->int8_rule = rule;
    if (!options.int8_share) chosen->int8_share.reset();  // a recipe's own leaves nothing to choose
  }
  for (const auto granularity : {formats::Granularity::kChannel, formats::Granularity::kGroup,
                                 formats::Granularity::kProgressive}) {
    if (options.w4 == formats::granularity_name(granularity)) chosen->granularity = granularity;
  }
  for (const auto scale :
       {formats::ActScale::kS1, formats::ActScale::kS2, formats::ActScale::kS2h}) {
    if (options.act_scale == formats::act_scale_name(scale)) chosen->act_scale = scale;
  }
  if (const Status status = quant::check_options(*chosen, config); !status) return status.error();
  return *std::move(chosen);
}

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

Result<Texts> cut_texts(const Options& options, const io::ModelConfig& config) {
  std::string path = options.calib;
  if (path.empty()) {
    auto packaged = packaged_calibration();
    if (!packaged) return packaged.error();
    path = *packaged;
    log_info(
        "calibrating on the packaged text {}; a text of your own kind (--calib FILE) is better",
        path);
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
  auto set = quant::cut_calibration_windows(documents, options.calib_samples, length);
  if (!set) return Error{set.error().code, path + ": " + set.error().message};
  if (static_cast<int64_t>(set->samples.size()) < options.calib_samples) {
    log_warning("{}: gives only {} samples of {} tokens, not {}", path, set->samples.size(), length,
                options.calib_samples);
  }
  // On a CPU the gate may not take longer than what it guards.
  constexpr int64_t kCalibrationTokensPerGateToken = 4;
  const int64_t max_gate_tokens = std::min(
      quant::kMaxGateTokens, std::max(length, set->num_tokens() / kCalibrationTokensPerGateToken));
  Texts texts{*std::move(set), quant::cut_gate_windows(documents, length, max_gate_tokens)};
  if (texts.gate.inputs.samples.empty()) {
    log_warning("{}: is too short to hold text back, so there is no quality gate", path);
  }
  return texts;
}

std::string describe(const quant::QuantizeOptions& o) {
  if (o.act_scale == formats::ActScale::kA16) {
    return fmt::format("{}, weights in groups of 128 by {}", o.recipe, o.weights);
  }
  const std::string int8 = o.int8_share ? fmt::format("INT8 share {} by {}", *o.int8_share,
                                                      quant::block_rule_name(o.int8_rule))
                                        : fmt::format("{} INT8 blocks a site", o.int8_blocks);
  return fmt::format("{}, activations {} with {}, weights {} by {}", o.recipe,
                     formats::act_scale_name(o.act_scale), int8,
                     formats::granularity_name(o.granularity), o.weights);
}

void print_report(const quant::QuantReport& report, const std::string& out) {
  const quant::LinearReport* worst = nullptr;
  for (const quant::LinearReport& linear : report.linears) {
    if (worst == nullptr || linear.output_snr_db < worst->output_snr_db) worst = &linear;
  }
  fmt::print("{}: {} of tensors in {:.1f} s\n", out, bytes_text(report.size_bytes), report.seconds);
  if (report.options.act_scale != formats::ActScale::kA16) {
    fmt::print("4-bit activations {:.1f} % of multiply-accumulates, {:.1f} % of blocks\n",
               report.int4_activation_share() * 100, report.int4_block_share() * 100);
  }
  if (worst != nullptr) {
    fmt::print("lowest output SNR {:.1f} dB at {}\n", worst->output_snr_db, worst->name);
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
  if (const Status status = refuse_unsupported(options); !status) return status;
  Interrupt interrupt;
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  const auto checkpoint = io::Checkpoint::open(options.model);
  if (!checkpoint) return checkpoint.error();
  const auto config = io::parse_model_config(checkpoint->config(), checkpoint->config_path());
  if (!config) return config.error();
  const auto chosen = quantize_options(options, *config);
  if (!chosen) return chosen.error();
  if (prints_text(globals)) fmt::print("recipe {}, cache {}\n", describe(*chosen), chosen->kv);
  auto texts = cut_texts(options, *config);
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

void add_method_options(CLI::App& command, Options& options) {
  command
      .add_option(
          "--recipe", options.recipe,
          "auto (w4a8 on a CPU), w4a8, fmpq, paper or naive; the flags below override parts")
      ->check(CLI::IsMember({"auto", "w4a8", "fmpq", "paper", "naive"}));
  command.add_option("--target", options.target, "Device that auto chooses for")
      ->check(CLI::IsMember({"auto", "cpu", "sm80", "sm90"}));
  command.add_option("--weights", options.weights, "How weights are rounded")
      ->check(CLI::IsMember({"rtn", "clip", "gptq"}));
  command.add_option("--damp", options.damp, "Damping of gptq's Hessian (default 0.01)");
  command.add_option("--w4", options.w4, "Span of a weight scale")
      ->check(CLI::IsMember({"channel", "group", "progressive"}));
  command.add_option("--act-scale", options.act_scale, "Span of an activation scale")
      ->check(CLI::IsMember({"S1", "S2", "S2h"}));
  auto* share = command.add_option("--int8-share", options.int8_share,
                                   "Share of multiply-accumulates with 8-bit activations, 0 to 1");
  command.add_option("--int8-blocks", options.int8_blocks, "8-bit blocks of 128 channels per site")
      ->excludes(share);
  command
      .add_option("--int8-rule", options.int8_rule,
                  "How the share is spread over sites: all alike, or by measured effect")
      ->check(CLI::IsMember({"fixed", "kl", "error"}));
  command.add_option("--equalize", options.equalize, "Fold activation outliers into weights")
      ->check(CLI::IsMember({"on", "off"}));
  command.add_option("--smooth", options.smooth, "SmoothQuant strength (other formats)");
  command.add_option("--lm-head", options.lm_head, "Type of the output head")
      ->check(CLI::IsMember({"bf16", "int8"}));
  command.add_option("--kv", options.kv, "Cache format (default: kv4 with w4ax, kv16 with w4a16)")
      ->check(CLI::IsMember({"kv16", "kv8", "kv4"}));
  command.add_option("--kv-smooth", options.kv_smooth, "Fold sqrt(k/q) into the projections")
      ->check(CLI::IsMember({"on", "off"}));
  command.add_option("--kv-rotate", options.kv_rotate, "Rotate queries and keys")
      ->check(CLI::IsMember({"on", "off"}));
  command
      .add_option("--kv-rotate-values", options.kv_rotate_values,
                  "Fold a rotation of the values into the projections (default off)")
      ->check(CLI::IsMember({"on", "off"}));
  command.add_option("--kv-window", options.kv_window, "First and last tokens kept in BF16: s,r")
      ->delimiter(',')
      ->expected(2)
      ->check(CLI::NonNegativeNumber);
}

}  // namespace

void add_quantize(CLI::App& app, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("quantize", "Make a 4-bit model");
  command.add_option("MODEL", options->model, "Model folder")->required();
  command.add_option("-o,--out", options->out, "Folder to make")->required();
  command.add_option("--format", options->format, "Format to write")
      ->check(CLI::IsMember({"w4ax", "w4a16", "w8a8-int", "w8a8-fp8"}));
  add_method_options(command, *options);
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
  command.callback([&globals, &action, options] {
    action = [&globals, options] { return run_quantize(globals, *options); };
  });
}

}  // namespace comet::cli
