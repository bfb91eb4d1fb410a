// comet bench vision: images a second of the image classifiers with random weights, inference and
// training steps; on a GPU BF16 and a replayed CUDA graph, on the CPU FP32, beside what its
// multiply-accumulates would take at the rate of registers.
#include <cstdio>

#include "apps/comet/command.h"
#include "bench/roof.h"
#include "bench/vision_bench.h"
#include "comet/train/recipe/recipe.h"

namespace comet::cli {
namespace {

struct Options {
  std::vector<std::string> architectures{"inception_next_tiny", "convnext_tiny"};
  std::vector<std::string> modes{"infer"};
  std::vector<int64_t> batches;
  std::vector<std::string> formats{"dense"};
  int64_t size = 224;
  int64_t num_classes = 1000;
  std::string mixer;
};

/// One row of the table.
struct Case {
  std::string architecture;
  std::string mode;
  std::string format;
  int64_t batch = 0;
};

std::string dtype_of(const Context& ctx, const Case& c) {
  if (c.format != "dense") return c.format;
  return ctx.cuda != nullptr ? "bf16" : "f32";
}

struct CaseTiming {
  bench::ForwardTiming timing;
  double macs = 0;  // of one image at inference
};

Result<CaseTiming> time_mode(Context& ctx, const Options& options, const Case& c) {
  if (c.mode == "infer") {
    if (!options.mixer.empty()) {
      return make_error(ErrorCode::kUnsupported,
                        "--mixer {} is a network of training; add --mode train", options.mixer);
    }
    const auto model =
        bench::random_vision_model(ctx, {c.architecture, options.num_classes, c.format});
    if (!model) return model.error();
    return CaseTiming{bench::time_forward(ctx, **model, c.batch, options.size),
                      bench::forward_macs((*model)->config(), options.size)};
  }
  if (ctx.cuda == nullptr) {
    return make_error(ErrorCode::kUnsupported,
                      "--mode train is measured on a GPU; add --device cuda");
  }
  const auto recipe = train::parse_recipe(
      {{"architecture", c.architecture}, {"mixer", options.mixer}}, "bench vision");
  if (!recipe) return recipe.error();
  const auto config = train::network_of(*recipe, options.num_classes);
  if (!config) return config.error();
  return CaseTiming{bench::time_training(ctx, *config, c.batch, options.size)};
}

/// `fma_gmac_per_s`: of the CPU; 0 on a GPU.
Result<Json> time_row(Context& ctx, const Options& options, const Case& c, double fma_gmac_per_s) {
  const auto timed = time_mode(ctx, options, c);
  if (!timed) return timed.error();
  const bench::ForwardTiming& timing = timed->timing;
  const auto batch = static_cast<double>(c.batch);
  Json row{{"arch", c.architecture}, {"mode", c.mode},
           {"mixer", options.mixer}, {"dtype", dtype_of(ctx, c)},
           {"batch", c.batch},       {"size", options.size},
           {"us", timing.us},        {"images_per_s", batch / timing.us * 1e6}};
  if (ctx.cuda != nullptr) {
    row["gpu"] = bench::state_json(timing.state);
    return row;
  }
  row["best_us"] = timing.best_us;
  row["best_images_per_s"] = batch / timing.best_us * 1e6;
  row["gflop_per_s"] = 2e-3 * timed->macs * batch / timing.best_us;
  row["fma_share"] = 1e-3 * timed->macs * batch / timing.best_us / fma_gmac_per_s;
  return row;
}

void print_row(const Json& row) {
  fmt::print("{:<22} {:<6} {:<8} batch {:>4} size {:>4} {:>10.1f} us {:>9.1f} images/s",
             row["arch"].get<std::string>(), row["mode"].get<std::string>(),
             row["dtype"].get<std::string>(), row["batch"].get<int64_t>(),
             row["size"].get<int64_t>(), row["us"].get<double>(),
             row["images_per_s"].get<double>());
  if (row.contains("fma_share")) {
    fmt::print("; best {:>7.1f}: {:>6.1f} GFLOP/s, {:>3.0f} % of FP32 FMA",
               row["best_images_per_s"].get<double>(), row["gflop_per_s"].get<double>(),
               100 * row["fma_share"].get<double>());
  }
  fmt::print("\n");
  std::fflush(stdout);
}

std::vector<Case> cases_of(const Context& ctx, const Options& options) {
  std::vector<int64_t> batches = options.batches;
  if (batches.empty()) {
    batches = ctx.cuda != nullptr ? std::vector<int64_t>{128} : std::vector<int64_t>{1, 8};
  }
  std::vector<Case> cases;
  for (const std::string& architecture : options.architectures) {
    for (const std::string& format : options.formats) {
      for (const int64_t batch : batches) {
        for (const std::string& mode : options.modes) {
          cases.push_back({architecture, mode, format, batch});
        }
      }
    }
  }
  return cases;
}

Status run_vision(const Globals& globals, const Options& options) {
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  const double fma_gmac_per_s = ctx.cuda != nullptr ? 0 : bench::measure_fma_gmac_per_s(ctx);
  if (ctx.cuda == nullptr && prints_text(globals)) {
    fmt::print("FP32 FMA of {} threads: {:.1f} GFLOP/s\n", ctx.pool.num_threads(),
               2 * fma_gmac_per_s);
  }
  Json rows = Json::array();
  for (const Case& c : cases_of(ctx, options)) {
    auto row = time_row(ctx, options, c, fma_gmac_per_s);
    if (!row) return row.error();
    if (prints_text(globals)) print_row(*row);
    rows.push_back(*std::move(row));
  }
  Json result{{"rows", std::move(rows)}};
  if (ctx.cuda == nullptr) result["fma_gflop_per_s"] = 2 * fma_gmac_per_s;
  return write_json_result(globals, "bench vision", result);
}

}  // namespace

void add_bench_vision(CLI::App& bench, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& app = *bench.add_subcommand("vision", "Image classifiers: images a second");
  app.fallthrough();
  app.add_option("--arch", options->architectures, "Architectures")->delimiter(',');
  app.add_option("--mode", options->modes, "infer, train")
      ->delimiter(',')
      ->check(CLI::IsMember({"infer", "train"}));
  app.add_option("--format", options->formats,
                 "Of the products at inference: dense (BF16 on a GPU, FP32 on the CPU), w8a8-int, "
                 "w8a8-fp8")
      ->delimiter(',')
      ->check(CLI::IsMember({"dense", "w8a8-int", "w8a8-fp8"}));
  app.add_option("--batch", options->batches,
                 "Images at a time (default: 128 on a GPU, 1 and 8 on the CPU)")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, int64_t{4096}));
  app.add_option("--size", options->size, "Height and width")
      ->check(CLI::Range(models::kMinImageSize, int64_t{2048}));
  app.add_option("--classes", options->num_classes, "Classes")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  app.add_option(
      "--mixer", options->mixer,
      "Of InceptionNeXt in training: \"7x7\" or another odd size; as comet vision train");
  app.callback([&globals, &action, options] {
    action = [&globals, options] { return run_vision(globals, *options); };
  });
}

}  // namespace comet::cli
