// comet vision classify MODEL IMAGE…|DIR: the most probable classes of images.
#include "apps/comet/vision_model_folder.h"

namespace comet::cli {
namespace {

struct Options {
  VisionFlags vision;
  std::vector<std::string> paths;
  int64_t num_classes = 5;
};

Json predictions_json(const std::vector<float>& probabilities, const io::ClassLabels& labels,
                      int64_t num_classes) {
  Json list = Json::array();
  for (const int64_t i : top_classes(probabilities, num_classes)) {
    Json row = {{"index", i}, {"label", labels.text(i)}, {"prob", probabilities[i]}};
    if (!labels.names.empty()) row["name"] = labels.names[i];
    list.push_back(std::move(row));
  }
  return list;
}

void print_image(const Json& image) {
  fmt::print("{}\n", image["file"].get<std::string>());
  for (const Json& row : image["predictions"]) {
    fmt::print("  {:6.2f} %  {}\n", row["prob"].get<double>() * 100,
               row["label"].get<std::string>());
  }
}

Status run_classify(const Globals& globals, const Options& options) {
  const auto paths = io::list_images(options.paths);
  if (!paths) return paths.error();
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  const auto folder = open_vision_folder(ctx, options.vision);
  if (!folder) return folder.error();
  const VisionFolder& opened = folder.value();

  io::ImageFolder images;
  for (const std::string& path : paths.value()) images.samples.push_back({path, 0});
  SkippedFiles skipped;
  train::ImageLoader loader(images, evaluation_settings(ctx, opened.preprocessing, options.vision),
                            skipped.callback());
  loader.start(0, 0);
  Json results = Json::array();
  train::ImageBatch batch;
  for (int64_t batch_idx = 0; batch_idx < loader.num_batches(); ++batch_idx) {
    auto next = loader.next(std::move(batch));
    if (!next) return next.error();
    batch = *std::move(next);
    const auto probabilities = class_probabilities(ctx, opened, batch);
    for (int64_t i = 0; i < batch.num_images(); ++i) {
      if (batch.labels[i] < 0) continue;
      const std::string& path = images.samples[batch_idx * options.vision.batch + i].path;
      Json image = {
          {"file", path},
          {"predictions", predictions_json(probabilities[i], opened.labels, options.num_classes)}};
      if (prints_text(globals)) print_image(image);
      results.push_back(std::move(image));
    }
  }
  if (results.empty()) {
    return make_error(ErrorCode::kCorrupt, "no image could be read; the first: {}",
                      skipped.json().front()["error"].get<std::string>());
  }
  return write_json_result(globals, "vision classify",
                           {{"model", options.vision.model},
                            {"architecture", opened.model->config().architecture},
                            {"images", results},
                            {"skipped", skipped.json()}});
}

}  // namespace

void add_vision_classify(CLI::App& vision, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *vision.add_subcommand("classify", "The most probable classes of images");
  add_vision_flags(command, options->vision);
  command.add_option("IMAGE", options->paths, "Images (JPEG, PNG) or folders of them")->required();
  command.add_option("--top-k", options->num_classes, "Classes for each image")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  command.callback([&globals, &action, options] {
    action = [&globals, options] { return run_classify(globals, *options); };
  });
}

}  // namespace comet::cli
