// comet vision validate MODEL --data DIR: accuracy on a folder of classes.
#include <algorithm>
#include <cmath>

#include "apps/comet/vision_model_folder.h"
#include "comet/base/progress.h"

namespace comet::cli {
namespace {

constexpr int64_t kTopFew = 5;

struct Options {
  VisionFlags vision;
  std::string data;
  std::string class_map;
  int64_t limit = 0;
};

struct Counts {
  int64_t num_images = 0;
  int64_t num_skipped = 0;
  int64_t top1 = 0;
  int64_t top5 = 0;
  double loss = 0;  // sum of −log p of the labels
};

/// The folder's classes as the classifier numbers them: by --class-map, by its label_names, or,
/// where it has none, in sorted order, which must then be as many.
Result<io::ImageFolder> open_data(const Options& options, const VisionFolder& folder) {
  const std::string root = io::split_folder(options.data, {"val", "validation", "test"});
  const int64_t num_classes = folder.model->config().num_classes;
  io::ClassLabels map = folder.labels;
  if (!options.class_map.empty()) {
    auto read = io::read_class_map(options.class_map);
    if (!read) return read.error();
    map = *std::move(read);
  }
  const bool named = !map.names.empty();
  auto data = io::open_image_folder(root, named ? &map : nullptr);
  if (!data) return data.error();
  if (static_cast<int64_t>(data->classes.size()) != num_classes) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: {} classes, but the classifier has {}; give a --class-map with its {}",
                      named ? options.class_map : root, data->classes.size(), num_classes,
                      num_classes);
  }
  return data;
}

/// `limit` images spread evenly over the folder.
void thin_out(io::ImageFolder& data, int64_t limit) {
  const auto count = static_cast<int64_t>(data.samples.size());
  if (limit <= 0 || limit >= count) return;
  std::vector<io::ImageSample> kept;
  for (int64_t i = 0; i < limit; ++i) kept.push_back(data.samples[i * count / limit]);
  data.samples = std::move(kept);
}

void count_batch(const train::ImageBatch& batch,
                 const std::vector<std::vector<float>>& probabilities, Counts& counts) {
  for (int64_t i = 0; i < batch.num_images(); ++i) {
    const int32_t label = batch.labels[i];
    if (label < 0) {
      ++counts.num_skipped;
      continue;
    }
    const auto top = top_classes(probabilities[i], kTopFew);
    ++counts.num_images;
    counts.top1 += top.front() == label ? 1 : 0;
    counts.top5 += std::ranges::find(top, label) != top.end() ? 1 : 0;
    counts.loss -= std::log(std::max(probabilities[i][label], 1e-30F));
  }
}

Json result_json(const Options& options, const VisionFolder& folder, const Counts& counts) {
  const auto n = static_cast<double>(counts.num_images);
  const auto share = [&](int64_t count) { return static_cast<double>(count) / n; };
  const auto stderr_of = [&](double p) { return std::sqrt(p * (1 - p) / n); };
  return {{"model", options.vision.model},
          {"architecture", folder.model->config().architecture},
          {"data", options.data},
          {"num_images", counts.num_images},
          {"num_skipped", counts.num_skipped},
          {"top1", share(counts.top1)},
          {"top1_stderr", stderr_of(share(counts.top1))},
          {"top5", share(counts.top5)},
          {"top5_stderr", stderr_of(share(counts.top5))},
          {"loss", counts.loss / n},
          {"batch", options.vision.batch},
          {"image_size", folder.preprocessing.image_size},
          {"crop_pct", folder.preprocessing.crop_pct}};
}

void print_result(const Json& r) {
  fmt::print("top-1 {:.2f} % ± {:.2f}   top-5 {:.2f} %   loss {:.4f}   {} images, {} skipped\n",
             r["top1"].get<double>() * 100, r["top1_stderr"].get<double>() * 100,
             r["top5"].get<double>() * 100, r["loss"].get<double>(), r["num_images"].get<int64_t>(),
             r["num_skipped"].get<int64_t>());
  fmt::print("{:.1f} images/s, {:.1f} in the classifier alone\n", r["images_per_s"].get<double>(),
             r["classifier_images_per_s"].get<double>());
}

Status run_validate(const Globals& globals, const Options& options) {
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  const auto folder = open_vision_folder(ctx, options.vision);
  if (!folder) return folder.error();
  const VisionFolder& opened = folder.value();
  auto data = open_data(options, opened);
  if (!data) return data.error();
  thin_out(*data, options.limit);

  SkippedFiles skipped;
  Counts counts;
  double classifier_s = 0;
  const Stopwatch whole;
  {
    train::ImageLoader loader(*data, evaluation_settings(ctx, opened.preprocessing, options.vision),
                              skipped.callback());
    loader.start(0, 0);
    Progress progress("validate", loader.num_images(), "images", globals.quiet);
    train::ImageBatch batch;
    for (int64_t batch_idx = 0; batch_idx < loader.num_batches(); ++batch_idx) {
      auto next = loader.next(std::move(batch));
      if (!next) return next.error();
      batch = *std::move(next);
      const Stopwatch watch;
      const auto probabilities = class_probabilities(ctx, opened, batch);
      classifier_s += watch.seconds();
      count_batch(batch, probabilities, counts);
      progress.advance(batch.num_images());
    }
  }
  if (counts.num_images == 0) {
    return make_error(ErrorCode::kCorrupt, "{}: none of its {} images could be read", data->root,
                      counts.num_skipped);
  }
  Json result = result_json(options, opened, counts);
  const auto num_run = static_cast<double>(counts.num_images + counts.num_skipped);
  result["images_per_s"] = num_run / whole.seconds();
  result["classifier_images_per_s"] = num_run / classifier_s;
  result["skipped"] = skipped.json();
  if (prints_text(globals)) print_result(result);
  return write_json_result(globals, "vision validate", result);
}

}  // namespace

void add_vision_validate(CLI::App& vision, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *vision.add_subcommand("validate", "Accuracy on a folder of classes");
  add_vision_flags(command, options->vision);
  command
      .add_option("--data", options->data,
                  "Folder with a folder for each class, or with such a folder named val")
      ->required();
  command.add_option("--class-map", options->class_map,
                     "Names of the classes: a line each, or JSON {name: index}");
  command.add_option("--limit", options->limit, "So many images, spread over the folder; 0: all")
      ->check(CLI::NonNegativeNumber);
  command.callback([&globals, &action, options] {
    action = [&globals, options] { return run_validate(globals, *options); };
  });
}

}  // namespace comet::cli
