// comet bench ops: the plain operators and the sampler of a GPU on a model's shapes, or those over
// images on an image classifier's, beside the rate of a copy measured in the same run.
#include <algorithm>
#include <cstdio>

#include "apps/comet/command.h"
#include "bench/op_bench.h"
#include "bench/vision_bench.h"
#include "comet/models/synthetic.h"

namespace comet::cli {
namespace {

struct Options {
  std::string shapes = "llama3-8b";
  std::vector<int64_t> rows{1, 64, 256, 4096};
  int64_t images = 128;
  int64_t image_size = 224;
};

Json row_json(const bench::OpTiming& timing, double copy_gb_per_s) {
  const double gb_per_s = timing.bytes / timing.us / 1e3;
  return {{"op", timing.op},
          {"rows", timing.rows},
          {"us", timing.us},
          {"bytes", timing.bytes},
          {"gb_per_s", gb_per_s},
          {"copy_share", gb_per_s / copy_gb_per_s},
          {"gpu", bench::state_json(timing.state)}};
}

void print_row(const Json& row) {
  std::fputs(
      fmt::format("{:<38} {:>6} {:>10.2f} {:>9.1f} {:>7.0f} %\n", row["op"].get<std::string>(),
                  row["rows"].get<int64_t>(), row["us"].get<double>(),
                  row["gb_per_s"].get<double>(), 100 * row["copy_share"].get<double>())
          .c_str(),
      stdout);
  std::fflush(stdout);
}

bool is_classifier(const std::string& name) {
  const std::vector<std::string> names = models::vision_architectures();
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// The timings of every row of the table; calls `done` with each as it is there.
template <typename Done>
Status time_all(Context& ctx, const Options& options, const Done& done) {
  if (is_classifier(options.shapes)) {
    const auto config = models::vision_config(
        options.shapes, [](const std::string&) { return std::optional<Shape>(Shape{1000, 1}); },
        "--shapes " + options.shapes);
    if (!config) return config.error();
    for (const bench::OpTiming& timing :
         bench::time_image_ops(ctx, *config, options.images, options.image_size)) {
      done(timing);
    }
    return {};
  }
  const auto config = models::synthetic_config(options.shapes);
  if (!config) return config.error();
  for (const int64_t num_rows : options.rows) {
    for (const bench::OpTiming& timing : bench::time_ops(ctx, *config, num_rows)) done(timing);
  }
  return {};
}

Status run_ops(const Globals& globals, const Options& options) {
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  if (ctx.cuda == nullptr) {
    return make_error(ErrorCode::kUnsupported,
                      "bench ops measures a GPU's operators; add --device cuda");
  }
  const double copy_gb_per_s = bench::measure_gpu_copy_gb_per_s(ctx);
  if (prints_text(globals)) {
    std::fputs(fmt::format("{}, {}; copies {:.0f} GB/s\n{:<38} {:>6} {:>10} {:>9} {:>9}\n",
                           ctx.caps.gpu_name, options.shapes, copy_gb_per_s, "op", "rows", "us",
                           "GB/s", "of copy")
                   .c_str(),
               stdout);
  }
  Json rows = Json::array();
  const Status timed = time_all(ctx, options, [&](const bench::OpTiming& timing) {
    rows.push_back(row_json(timing, copy_gb_per_s));
    if (prints_text(globals)) print_row(rows.back());
  });
  if (!timed) return timed.error();
  return write_json_result(
      globals, "bench ops",
      {{"shapes", options.shapes}, {"rows", std::move(rows)}, {"copy_gb_per_s", copy_gb_per_s}});
}

}  // namespace

void add_bench_ops(CLI::App& bench, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& app = *bench.add_subcommand("ops", "A GPU's plain operators against its copy rate");
  app.fallthrough();
  app.add_option("--shapes", options->shapes, "MODEL or image classifier whose shapes are taken");
  app.add_option("--rows", options->rows, "Numbers of tokens")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, int64_t{16384}));
  app.add_option("--images", options->images, "Images at a time of a classifier")
      ->check(CLI::Range(int64_t{1}, int64_t{1024}));
  app.add_option("--image-size", options->image_size, "Their height and width")
      ->check(CLI::Range(models::kMinImageSize, int64_t{1024}));
  app.callback([&globals, &action, options] {
    action = [&globals, options] { return run_ops(globals, *options); };
  });
}

}  // namespace comet::cli
