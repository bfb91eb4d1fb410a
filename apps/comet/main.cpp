// comet: one binary, one subcommand per file. Results on stdout, everything else on stderr.
// Exit codes: 0 done, 1 failed, 2 wrong usage.
#include <cstdio>
#include <exception>
#include <new>

#include "apps/comet/command.h"
#include "comet/base/log.h"
#include "comet/device/memory_error.h"

namespace {

using comet::cli::Action;
using comet::cli::Globals;

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

void add_global_options(CLI::App& app, Globals& globals) {
  app.add_option("--device", globals.device, "auto, cpu or cuda[:i]")->capture_default_str();
  app.add_option("--threads", globals.threads, "Compute threads (default: what the machine allows)")
      ->check(CLI::Range(0, 1024));
  app.add_option("--seed", globals.seed, "Seed of everything random")->capture_default_str();
  app.add_option("--log-level", globals.log_level, "debug, info, warning, error or off")
      ->capture_default_str();
  app.add_option("--json", globals.json,
                 "Write the machine-readable result to a file, or - for stdout");
  app.add_flag("--quiet", globals.quiet, "No progress and no text for people");
}

int report(const comet::Error& error) {
  fmt::print(stderr, "comet: error: {}\n", error.message);
  return error.code == comet::ErrorCode::kInvalidArgument ? kExitUsage : kExitFailed;
}

int run(int argc, char** argv) {
  CLI::App app{"Comet: 4-bit language models, measured honestly", "comet"};
  app.set_version_flag("--version", std::string("comet ") + COMET_VERSION);
  app.require_subcommand(1);
  app.fallthrough();  // global options may stand behind the subcommand
  Globals globals;
  Action action;
  add_global_options(app, globals);
  comet::cli::add_info(app, globals, action);
  comet::cli::add_quantize(app, globals, action);
  comet::cli::add_export(app, globals, action);
  comet::cli::add_generate(app, globals, action);
  comet::cli::add_chat(app, globals, action);
  comet::cli::add_eval(app, globals, action);
  comet::cli::add_compare(app, globals, action);
  comet::cli::add_bench(app, globals, action);
  comet::cli::add_serve(app, globals, action);
  comet::cli::add_study(app, globals, action);
  comet::cli::add_vision(app, globals, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? 0 : kExitUsage;
  }
  const auto level = comet::parse_log_level(globals.log_level);
  if (!level) return report(level.error());
  comet::set_log_level(globals.quiet ? comet::LogLevel::kWarning : *level);
  const comet::Status status = action();
  return status.ok() ? 0 : report(status.error());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    fmt::print(stderr,
               "comet: error: out of memory; use a smaller model, batch, --max-model-len or "
               "--kv-memory\n");
  } catch (const comet::OutOfDeviceMemory& e) {
    fmt::print(stderr,
               "comet: error: out of GPU memory: {} bytes asked for, {} free; use a smaller model, "
               "batch or --kv-memory, or end what else uses the GPU\n",
               e.asked_bytes, e.free_bytes);
  } catch (const std::exception& e) {
    fmt::print(stderr, "comet: internal error: {}\n", e.what());
  }
  return kExitFailed;
}
