// comet export MODEL -o OUT: out of one format into what other programs read.
#include <cstdio>

#include "apps/comet/command.h"
#include "comet/base/log.h"
#include "comet/base/progress.h"
#include "comet/quant/export/export_compressed_tensors.h"
#include "comet/quant/export/export_dense.h"

namespace comet::cli {
namespace {

struct Options {
  std::string model;
  std::string out;
  std::string format;
  bool force = false;
};

Status run_export(const Globals& globals, const Options& options) {
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  const auto checkpoint = io::Checkpoint::open(options.model);
  if (!checkpoint) return checkpoint.error();
  const auto config = io::parse_model_config(checkpoint->config(), checkpoint->config_path());
  if (!config) return config.error();
  Progress progress("exporting", config->num_layers, "layers", globals.quiet);
  const quant::ExportRequest request{options.out, options.force,
                                     [&](int64_t) { progress.advance(1); }};
  const bool dense = options.format == "dense";
  const auto size_bytes = dense ? quant::export_dense(ctx, *checkpoint, request)
                                : quant::export_compressed_tensors(ctx, *checkpoint, request);
  if (!size_bytes) return size_bytes.error();
  if (prints_text(globals)) {
    fmt::print("{}: {} of {} tensors\n", options.out, bytes_text(*size_bytes),
               dense ? "BF16" : "compressed-tensors");
  }
  return write_json_result(globals, "export",
                           {{"format", options.format}, {"size_bytes", *size_bytes}});
}

}  // namespace

void add_export(CLI::App& app, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command =
      *app.add_subcommand("export", "Write a quantized model in a form that others read");
  command.add_option("MODEL", options->model, "Model folder")->required();
  command.add_option("-o,--out", options->out, "Folder to make")->required();
  command.add_option("--format", options->format, "dense (BF16) or compressed-tensors")
      ->required()
      ->check(CLI::IsMember({"dense", "compressed-tensors"}));
  command.add_flag("--force", options->force, "Replace OUT");
  command.callback([&globals, &action, options] {
    action = [&globals, options] { return run_export(globals, *options); };
  });
}

}  // namespace comet::cli
