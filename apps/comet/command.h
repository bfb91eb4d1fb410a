// What every subcommand shares: the global options, how an action is registered, and how results
// leave the program (text on stdout, --json as docs say). One file per subcommand.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "comet/base/json.h"
#include "comet/base/result.h"
#include "comet/io/checkpoint.h"
#include "comet/models/load.h"
#include "comet/ops/context.h"
#include "comet/text/tokenizer.h"

namespace comet::cli {

struct Globals {
  std::string device = "auto";
  int threads = 0;  // 0: what affinity and cgroup allow
  uint64_t seed = 0;
  std::string log_level = "info";
  std::string json;  // file or "-"; empty: none
  bool quiet = false;
};

/// A subcommand sets the action that runs after parsing. kInvalidArgument ends with exit code 2,
/// every other error with 1.
using Action = std::function<Status()>;

void add_info(CLI::App& app, const Globals& globals, Action& action);
void add_quantize(CLI::App& app, const Globals& globals, Action& action);
void add_export(CLI::App& app, const Globals& globals, Action& action);
void add_generate(CLI::App& app, const Globals& globals, Action& action);
void add_chat(CLI::App& app, const Globals& globals, Action& action);
void add_eval(CLI::App& app, const Globals& globals, Action& action);
void add_compare(CLI::App& app, const Globals& globals, Action& action);
void add_bench(CLI::App& app, const Globals& globals, Action& action);
void add_serve(CLI::App& app, const Globals& globals, Action& action);
void add_study(CLI::App& app, const Globals& globals, Action& action);
void add_vision(CLI::App& app, const Globals& globals, Action& action);

/// "0.1.0".
std::string version_text();
/// "2026-01-31T12:00:00Z".
std::string utc_now_text();

/// The device's runtime as the global options and COMET_CPU ask for it.
Result<std::unique_ptr<Runtime>> make_runtime(const Globals& globals);

/// Writes the --json envelope around `result` if --json was given; `command` is "eval", "bench
/// gemm", …
Status write_json_result(const Globals& globals, const std::string& command, const Json& result);
/// Whether text for people belongs on stdout: not with --quiet, not with --json -.
bool prints_text(const Globals& globals);

/// A model opened from a folder, with its tokenizer.
struct OpenedModel {
  io::Checkpoint checkpoint;
  std::unique_ptr<models::LlamaModel> model;
  text::Tokenizer tokenizer;
};
Result<text::Tokenizer> open_tokenizer(const std::string& directory);
Result<OpenedModel> open_model(Context& ctx, const std::string& directory,
                               const std::string& kv_name);

/// Whether --target auto is a GPU whose tensor cores run INT4 twice as quickly as INT8 (sm_8x).
inline bool has_int4_tensor_cores(const Caps& caps) {
  return caps.kind == DeviceKind::kCuda && caps.sm < 90;
}

/// The flags of --synthetic models; shared by generate, info and bench.
struct SyntheticFlags {
  std::string name;
  std::string format = "dense";
  std::string w4;
  std::string act_scale;
  std::string recipe = "auto";
  double int8_share = -1.0;
  std::string lm_head = "bf16";
};
void add_synthetic_flags(CLI::App& app, SyntheticFlags& flags);
Result<std::unique_ptr<models::LlamaModel>> make_synthetic(Context& ctx, const Globals& globals,
                                                           const SyntheticFlags& flags,
                                                           const std::string& kv_name);

/// What reports say of a whole model's format; shares by multiply-accumulates and by blocks.
struct FormatTraits {
  std::string act_scale;  // empty when not quantized to w4ax
  std::string w4;
  double int4_activation_share = 0;
  double int4_block_share = 0;
};
FormatTraits format_traits(const models::LlamaModel& model);

/// "256M", "2GiB", "1000000" → bytes; "auto" → 0.
Result<int64_t> parse_bytes(const std::string& flag, const std::string& text);
/// 28330200 → "28.3 MB".
std::string bytes_text(int64_t bytes);

}  // namespace comet::cli
