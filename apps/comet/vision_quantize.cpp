// comet vision quantize MODEL -o OUT --format F --calib DIR: a classifier of floats becomes one
// with 8-bit or 4-bit products.
#include <algorithm>

#include "apps/comet/vision_model_folder.h"
#include "comet/base/log.h"
#include "comet/base/progress.h"
#include "comet/quant/quant_report.h"
#include "comet/quant/vision/quantize_vision.h"

namespace comet::cli {

void add_vision_quantize(CLI::App& vision, const Globals& globals, Action& action);

namespace {

constexpr int64_t kHeldBackEvery = 8;  // one of so many images judges, the others calibrate

struct Options {
  VisionFlags vision;
  std::string out;
  std::string format;
  std::string calib;
  int64_t num_images = 288;
  std::optional<std::string> weights;
  std::optional<double> damp;
  bool force = false;
};

/// The images of a batch that could be read.
Tensor readable_images(Context& ctx, const train::ImageBatch& batch,
                       const io::Normalization& normalization) {
  train::ImageBatch kept;
  kept.image_size = batch.image_size;
  const auto image_bytes =
      static_cast<size_t>(batch.image_size * batch.image_size * int64_t{io::kImageColours});
  for (int64_t i = 0; i < batch.num_images(); ++i) {
    if (batch.labels[i] < 0) continue;
    const auto begin = batch.pixels.begin() + static_cast<int64_t>(i * image_bytes);
    kept.pixels.insert(kept.pixels.end(), begin, begin + static_cast<int64_t>(image_bytes));
    kept.labels.push_back(batch.labels[i]);
  }
  return normalized_images(ctx, kept, normalization);
}

Result<std::vector<Tensor>> load_images(Context& ctx, const io::ImageFolder& images,
                                        const train::LoaderSettings& settings,
                                        SkippedFiles& skipped) {
  std::vector<Tensor> batches;
  train::ImageLoader loader(images, settings, skipped.callback());
  if (loader.num_batches() > 0) loader.start(0, 0);
  train::ImageBatch batch;
  for (int64_t i = 0; i < loader.num_batches(); ++i) {
    auto next = loader.next(std::move(batch));
    if (!next) return next.error();
    batch = *std::move(next);
    Tensor tensor = readable_images(ctx, batch, settings.preprocessing.normalization);
    if (tensor.size(0) > 0) batches.push_back(std::move(tensor));
  }
  return batches;
}

/// Fills the images of `request`: of --calib's, --calib-images spread evenly over it.
Status read_images(Context& ctx, const Options& options, const io::Checkpoint& checkpoint,
                   SkippedFiles& skipped, quant::VisionQuantizeRequest& request) {
  if (options.calib.empty()) return {};
  const auto preprocessing = preprocessing_of(checkpoint, options.vision);
  if (!preprocessing) return preprocessing.error();
  const auto paths = io::list_images({options.calib});
  if (!paths) return paths.error();
  const auto num_paths = static_cast<int64_t>(paths->size());
  const int64_t count = std::min(options.num_images, num_paths);
  if (count < options.num_images) {
    log_warning("{}: holds only {} images, not {}", options.calib, count, options.num_images);
  }
  io::ImageFolder calibration, held_back;
  for (int64_t i = 0; i < count; ++i) {
    io::ImageFolder& to = i % kHeldBackEvery == kHeldBackEvery - 1 ? held_back : calibration;
    to.samples.push_back({(*paths)[i * num_paths / count], 0});
  }
  const train::LoaderSettings settings = evaluation_settings(ctx, *preprocessing, options.vision);
  auto batches = load_images(ctx, calibration, settings, skipped);
  if (!batches) return batches.error();
  request.calibration = *std::move(batches);
  auto others = load_images(ctx, held_back, settings, skipped);
  if (!others) return others.error();
  request.held_back = *std::move(others);
  if (!request.calibration.empty()) return {};
  return make_error(ErrorCode::kCorrupt, "{}: none of its {} images could be read", options.calib,
                    count);
}

Result<quant::QuantizeOptions> method_of(const Options& options) {
  auto chosen = quant::vision_options(options.format);
  if (!chosen) return chosen;
  if (options.weights) chosen->weights = *options.weights;
  if (options.format == "w8a8-fp8" && chosen->weights != "rtn") {
    return make_error(ErrorCode::kInvalidArgument,
                      "--weights {}: --format w8a8-fp8 rounds weights to nearest (rtn)",
                      chosen->weights);
  }
  if (options.damp && chosen->weights != "gptq") {
    return make_error(ErrorCode::kInvalidArgument,
                      "--damp: belongs to --weights gptq; here weights are made by {}",
                      chosen->weights);
  }
  if (options.damp) chosen->damp = *options.damp;
  if (options.calib.empty() && quant::needs_calibration(*chosen)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--calib DIR is missing: --format {} is calibrated on images of the kind "
                      "that the classifier will see, such as its training images",
                      options.format);
  }
  return chosen;
}

void print_report(const quant::VisionQuantReport& report, const std::string& out) {
  fmt::print("{}: {} of tensors in {:.1f} s\n", out, bytes_text(report.size_bytes), report.seconds);
  const auto worst = std::ranges::min_element(report.linears, {}, quant::snr_db);
  if (worst != report.linears.end()) {
    fmt::print("lowest {} SNR {:.1f} dB at {}\n", worst->output_snr_db ? "output" : "weight",
               quant::snr_db(*worst), worst->name);
  }
  if (report.gate) {
    fmt::print("{} images held back: same best class on {:.1f} %, KL {:.4g}\n",
               report.gate->num_images, report.gate->top1_agreement * 100, report.gate->kl_mean);
  }
}

/// A progress bar from the moment that its length is known; gone when it is full.
class StepProgress {
 public:
  StepProgress(const char* what, const char* unit, bool quiet)
      : what_(what), unit_(unit), quiet_(quiet) {}
  void reach(int64_t num_done, int64_t num_all) {
    if (!bar_) bar_.emplace(what_, num_all, unit_, quiet_);
    bar_->advance(num_done - num_done_);
    num_done_ = num_done;
    if (num_done == num_all) bar_.reset();
  }

 private:
  const char* what_;
  const char* unit_;
  bool quiet_;
  int64_t num_done_ = 0;
  std::optional<Progress> bar_;
};

Status run_quantize(const Globals& globals, const Options& options) {
  auto chosen = method_of(options);
  if (!chosen) return chosen.error();
  const auto checkpoint = io::Checkpoint::open(options.vision.model);
  if (!checkpoint) return checkpoint.error();
  if (const Status fits = quant::check_vision_original(*checkpoint); !fits) return fits;
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  SkippedFiles skipped;
  quant::VisionQuantizeRequest request{.options = *std::move(chosen),
                                       .out_dir = options.out,
                                       .force = options.force,
                                       .calibration = {},
                                       .held_back = {}};
  if (const Status read = read_images(ctx, options, *checkpoint, skipped, request); !read) {
    return read;
  }
  StepProgress calibrating("calibrating", "images", globals.quiet);
  StepProgress quantizing("quantizing", "products", globals.quiet);
  request.on_images = [&](int64_t done, int64_t all) { calibrating.reach(done, all); };
  request.on_product = [&](int64_t done, int64_t all) { quantizing.reach(done, all); };
  const auto report = quant::quantize_vision(ctx, *checkpoint, request);
  if (!report) return report.error();
  if (prints_text(globals)) print_report(*report, options.out);
  Json result = quant::report_json(*report);
  result["model"] = options.vision.model;
  result["out"] = options.out;
  result["seconds"] = report->seconds;
  result["skipped"] = skipped.json();
  return write_json_result(globals, "vision quantize", result);
}

}  // namespace

void add_vision_quantize(CLI::App& vision, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *vision.add_subcommand("quantize", "Make an 8-bit or 4-bit classifier");
  add_vision_flags(command, options->vision);
  command.add_option("-o,--out", options->out, "Folder to make")->required();
  command.add_option("--format", options->format, "Format to write")
      ->required()
      ->check(CLI::IsMember({"w8a8-int", "w8a8-fp8", "w4a16", "w4ax"}));
  command.add_option("--calib", options->calib,
                     "Folder of images, searched through; not the ones that judge the result");
  command.add_option("--calib-images", options->num_images, "Taken, spread over the folder")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  command.add_option("--weights", options->weights, "How weights are rounded (default gptq)")
      ->check(CLI::IsMember({"rtn", "clip", "gptq"}));
  command.add_option("--damp", options->damp, "Damping of gptq's Hessian (default 0.01)");
  command.add_flag("--force", options->force, "Replace OUT");
  command.callback([&globals, &action, options] {
    action = [&globals, options] { return run_quantize(globals, *options); };
  });
}

}  // namespace comet::cli
