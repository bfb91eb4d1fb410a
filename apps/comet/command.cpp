#include "apps/comet/command.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>

#include "comet/io/file.h"
#include "comet/models/synthetic.h"
#include "comet/quant/recipe.h"

namespace comet::cli {
namespace {

constexpr size_t kMaxTokenizerBytes = size_t{256} << 20;

std::string utc_text(std::time_t time) {
  std::tm parts{};
  gmtime_r(&time, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

// The moment the program started: set before main by its first use there.
std::string started_at() {
  static const std::string text = utc_text(std::time(nullptr));
  return text;
}

Json machine_json() {
  const auto memory = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  const std::vector<std::string> gpus = cuda_device_lines();
  return {{"cpu", cpu_model_name()}, {"cores", default_num_threads()},
          {"memory_bytes", memory},  {"gpu", gpus.empty() ? Json() : Json(gpus.front())},
          {"driver", nullptr},       {"cuda", cuda_built() ? Json("built") : Json()}};
}

}  // namespace

Result<std::unique_ptr<Runtime>> make_runtime(const Globals& globals) {
  started_at();
  const char* forced = std::getenv("COMET_CPU");
  return Runtime::create(globals.device, globals.threads, forced == nullptr ? "" : forced);
}

Status write_json_result(const Globals& globals, const std::string& command, const Json& result) {
  if (globals.json.empty()) return {};
  const Json envelope = {{"comet_version", COMET_VERSION},
                         {"git_commit", COMET_GIT_COMMIT},
                         {"command", command},
                         {"machine", machine_json()},
                         {"started_at", started_at()},
                         {"seed", globals.seed},
                         {"result", result}};
  const std::string text = envelope.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  if (globals.json == "-") {
    std::fwrite(text.data(), 1, text.size(), stdout);
    return {};
  }
  return io::write_file_atomic(globals.json, text);
}

std::string version_text() { return COMET_VERSION; }

std::string utc_now_text() { return utc_text(std::time(nullptr)); }

bool prints_text(const Globals& globals) { return !globals.quiet && globals.json != "-"; }

Result<text::Tokenizer> open_tokenizer(const std::string& directory) {
  const std::string path = directory + "/tokenizer.json";
  auto bytes = io::read_file(path, kMaxTokenizerBytes);
  if (!bytes) return bytes.error();
  return text::Tokenizer::from_json(*bytes, path);
}

Result<OpenedModel> open_model(Context& ctx, const std::string& directory,
                               const std::string& kv_name) {
  auto checkpoint = io::Checkpoint::open(directory);
  if (!checkpoint) return checkpoint.error();
  auto tokenizer = open_tokenizer(directory);
  if (!tokenizer) return tokenizer.error();
  auto model = models::load_model(ctx, *checkpoint, kv_name);
  if (!model) return model.error();
  if (tokenizer->vocab_size() > (*model)->config().vocab_size) {
    return make_error(ErrorCode::kCorrupt,
                      "{}/tokenizer.json has {} tokens, but config.json's vocab_size is {}: they "
                      "belong to different models",
                      directory, tokenizer->vocab_size(), (*model)->config().vocab_size);
  }
  return OpenedModel{*std::move(checkpoint), *std::move(model), *std::move(tokenizer)};
}

void add_synthetic_flags(CLI::App& app, SyntheticFlags& flags) {
  app.add_option("--synthetic", flags.name,
                 "Random weights of a published shape: " + models::synthetic_names());
  app.add_option("--format", flags.format, "Weight format of a synthetic model")
      ->check(CLI::IsMember({"dense", "bf16", "w4ax", "w4a16", "w8a8-int", "w8a8-fp8"}));
  app.add_option("--recipe", flags.recipe, "w4ax recipe of a synthetic model")
      ->check(CLI::IsMember({"auto", "w4a8", "fmpq", "paper", "naive"}));
  app.add_option("--w4", flags.w4, "w4ax weight scales of a synthetic model")
      ->check(CLI::IsMember({"channel", "group", "progressive"}));
  app.add_option("--act-scale", flags.act_scale, "w4ax activation scales of a synthetic model")
      ->check(CLI::IsMember({"S1", "S2", "S2h"}));
  app.add_option("--int8-share", flags.int8_share, "Share of INT8 blocks of a synthetic model")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--lm-head", flags.lm_head, "lm_head of a synthetic model")
      ->check(CLI::IsMember({"bf16", "int8"}));
}

Result<std::unique_ptr<models::LlamaModel>> make_synthetic(Context& ctx, const Globals& globals,
                                                           const SyntheticFlags& flags,
                                                           const std::string& kv_name) {
  using formats::ActScale;
  using formats::Granularity;
  const auto recipe =
      quant::options_of_recipe(flags.recipe, "auto", has_int4_tensor_cores(ctx.caps));
  if (!recipe) return recipe.error();
  models::SyntheticOptions options;
  options.format = flags.format == "bf16" ? "dense" : flags.format;
  options.kv = !kv_name.empty() ? kv_name : options.format == "w4ax" ? recipe->kv : "kv16";
  options.seed = globals.seed;
  options.int8_lm_head = flags.lm_head == "int8";
  options.int8_share = recipe->int8_share;
  options.int8_blocks = recipe->int8_blocks;
  options.granularity = recipe->granularity;
  options.act_scale = recipe->act_scale;
  if (flags.int8_share >= 0) options.int8_share = flags.int8_share;
  for (const auto granularity :
       {Granularity::kChannel, Granularity::kGroup, Granularity::kProgressive}) {
    if (flags.w4 == formats::granularity_name(granularity)) options.granularity = granularity;
  }
  for (const auto scale : {ActScale::kS1, ActScale::kS2, ActScale::kS2h}) {
    if (flags.act_scale == formats::act_scale_name(scale)) options.act_scale = scale;
  }
  return models::make_synthetic_model(ctx, flags.name, options);
}

FormatTraits format_traits(const models::LlamaModel& model) {
  FormatTraits all;
  double int4_macs = 0;
  double macs = 0;
  double int4_blocks = 0;
  double blocks = 0;
  for (const models::LlamaLayer& layer : model.layers()) {
    for (const nn::Linear* linear :
         {&layer.qkv, &layer.out_proj, &layer.gate_up, &layer.down_proj}) {
      const formats::LinearWeight& weight = linear->weight();
      if (weight.format->traits == nullptr) continue;
      const formats::LinearTraits traits = weight.format->traits(weight);
      const auto rows = static_cast<double>(weight.spec.n());
      all.act_scale = traits.act_scale;
      all.w4 = traits.w4;
      int4_macs += rows * static_cast<double>(traits.int4_blocks);
      macs += rows * static_cast<double>(traits.blocks);
      int4_blocks += static_cast<double>(traits.int4_blocks);
      blocks += static_cast<double>(traits.blocks);
    }
  }
  if (blocks > 0) {
    all.int4_activation_share = int4_macs / macs;
    all.int4_block_share = int4_blocks / blocks;
  }
  return all;
}

Result<int64_t> parse_bytes(const std::string& flag, const std::string& text) {
  if (text == "auto") return int64_t{0};
  size_t used = 0;
  double value = 0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  std::string unit = text.substr(used);
  if (unit.ends_with('B')) unit.pop_back();
  double factor = unit.empty() ? 1 : 0;
  for (const auto& [name, size] : {std::pair{"K", 1e3},
                                   {"M", 1e6},
                                   {"G", 1e9},
                                   {"Ki", 1024.0},
                                   {"Mi", 1048576.0},
                                   {"Gi", 1073741824.0}}) {
    if (unit == name) factor = size;
  }
  const double bytes = value * factor;
  if (used == 0 || !(bytes >= 1 && bytes < 9e18)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{} '{}': expected auto or a size such as 512M, 2GiB", flag, text);
  }
  return static_cast<int64_t>(bytes);
}

std::string bytes_text(int64_t bytes) {
  auto value = static_cast<double>(bytes);
  if (value < 1e3) return fmt::format("{} B", bytes);
  for (const char* unit : {"kB", "MB", "GB"}) {
    value /= 1e3;
    if (value < 999.95) return fmt::format("{:.1f} {}", value, unit);
  }
  return fmt::format("{:.2f} TB", value / 1e3);
}

}  // namespace comet::cli
