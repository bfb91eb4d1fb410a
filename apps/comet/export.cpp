// comet export MODEL -o OUT: out of Comet's own format, into what other programs read.
#include <cstdio>

#include "apps/comet/command.h"
#include "comet/base/log.h"
#include "comet/base/progress.h"
#include "comet/quant/export/export_dense.h"

namespace comet::cli {
namespace {

struct Options {
  std::string model;
  std::string out;
  std::string format;
  bool force = false;
};

/// No model of today needs this way out: each of them says why.
Error no_compressed_tensors(const io::Checkpoint& checkpoint, const models::ModelFormat& format) {
  const std::string source = checkpoint.config_path();
  if (format.weights->quant_method == "compressed-tensors") {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: {} is stored in compressed-tensors' form already; transformers and vLLM "
                      "read the folder as it is",
                      source, format.weights->name);
  }
  if (format.weights->pack == nullptr) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: this model is dense; `comet quantize --format w4a16` writes "
                      "compressed-tensors' form",
                      source);
  }
  return make_error(ErrorCode::kUnsupported,
                    "{}: {} permutes and rotates channels, which has no compressed-tensors form; "
                    "use --format dense",
                    source, format.weights->name);
}

Status run_export(const Globals& globals, const Options& options) {
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  const auto checkpoint = io::Checkpoint::open(options.model);
  if (!checkpoint) return checkpoint.error();
  const auto config = io::parse_model_config(checkpoint->config(), checkpoint->config_path());
  if (!config) return config.error();
  if (options.format == "compressed-tensors") {
    const auto format = models::parse_model_format(*config, checkpoint->config_path());
    return format ? no_compressed_tensors(*checkpoint, *format) : format.error();
  }
  Progress progress("exporting", config->num_layers, "layers", globals.quiet);
  const quant::ExportRequest request{options.out, options.force,
                                     [&](int64_t) { progress.advance(1); }};
  const auto size_bytes = quant::export_dense(ctx, *checkpoint, request);
  if (!size_bytes) return size_bytes.error();
  if (prints_text(globals)) {
    fmt::print("{}: {} of BF16 tensors\n", options.out, bytes_text(*size_bytes));
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
