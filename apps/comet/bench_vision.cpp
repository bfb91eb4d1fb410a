// comet bench vision: images a second of the image classifiers with random weights, inference and
// training steps; on a GPU BF16 and a replayed CUDA graph, on the CPU FP32.
#include <cstdio>

#include "apps/comet/command.h"
#include "bench/vision_bench.h"
#include "comet/train/recipe/recipe.h"

namespace comet::cli {
namespace {

struct Options {
  std::vector<std::string> architectures{"inception_next_tiny", "convnext_tiny"};
  std::vector<std::string> modes{"infer"};
  std::vector<int64_t> batches{128};
  int64_t size = 224;
  int64_t num_classes = 1000;
  std::string mixer;
};

Result<bench::ForwardTiming> time_mode(Context& ctx, const Options& options,
                                       const std::string& architecture, const std::string& mode,
                                       int64_t batch) {
  if (mode == "infer") {
    if (!options.mixer.empty()) {
      return make_error(ErrorCode::kUnsupported,
                        "--mixer {} is a network of training; add --mode train", options.mixer);
    }
    const auto model = bench::random_vision_model(ctx, architecture, options.num_classes);
    if (!model) return model.error();
    return bench::time_forward(ctx, **model, batch, options.size);
  }
  if (ctx.cuda == nullptr) {
    return make_error(ErrorCode::kUnsupported,
                      "--mode train is measured on a GPU; add --device cuda");
  }
  const auto recipe = train::parse_recipe(
      {{"architecture", architecture}, {"mixer", options.mixer}}, "bench vision");
  if (!recipe) return recipe.error();
  const auto config = train::network_of(*recipe, options.num_classes);
  if (!config) return config.error();
  return bench::time_training(ctx, *config, batch, options.size);
}

Result<Json> time_row(Context& ctx, const Options& options, const std::string& architecture,
                      const std::string& mode, int64_t batch) {
  const auto timed = time_mode(ctx, options, architecture, mode, batch);
  if (!timed) return timed.error();
  const bench::ForwardTiming& timing = *timed;
  return Json{{"us", timing.us},
              {"images_per_s", static_cast<double>(batch) / timing.us * 1e6},
              {"gpu", bench::state_json(timing.state)}};
}

Status run_vision(const Globals& globals, const Options& options) {
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  const char* dtype = ctx.cuda != nullptr ? "bf16" : "f32";
  Json rows = Json::array();
  for (const std::string& architecture : options.architectures) {
    for (const int64_t batch : options.batches) {
      for (const std::string& mode : options.modes) {
        auto timed = time_row(ctx, options, architecture, mode, batch);
        if (!timed) return timed.error();
        Json row{{"arch", architecture}, {"mode", mode},   {"mixer", options.mixer},
                 {"dtype", dtype},       {"batch", batch}, {"size", options.size}};
        row.update(*timed);
        if (prints_text(globals)) {
          std::fputs(fmt::format("{:<22} {:<6} {} batch {:>4} size {:>4} {:>10.1f} us {:>9.0f} "
                                 "images/s\n",
                                 architecture, mode, dtype, batch, options.size,
                                 row["us"].get<double>(), row["images_per_s"].get<double>())
                         .c_str(),
                     stdout);
          std::fflush(stdout);
        }
        rows.push_back(std::move(row));
      }
    }
  }
  return write_json_result(globals, "bench vision", {{"rows", std::move(rows)}});
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
  app.add_option("--batch", options->batches, "Images at a time")
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
