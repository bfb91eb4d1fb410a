// comet vision train --arch NAME --data DIR -o OUT: trains an image classifier on a folder of
// classes.
#include <filesystem>

#include "apps/comet/interrupt.h"
#include "apps/comet/train_log.h"
#include "apps/comet/vision_model_folder.h"
#include "comet/base/log.h"
#include "comet/base/progress.h"
#include "comet/device/memory_error.h"
#include "comet/models/vision/weights/vision_tensors.h"
#include "comet/train/loop/pass_memory.h"

namespace comet::cli {

void add_vision_train(CLI::App& vision, const Globals& globals, Action& action);

namespace {

constexpr size_t kMaxRecipeBytes = size_t{1} << 20;

/// What the command line changes in the recipe.
struct RecipeFlags {
  std::optional<std::string> arch, mixer;
  std::optional<int64_t> epochs, batch, image_size, seed, grad_accum;
  std::optional<double> lr, ema, drop_path;
};

struct Options {
  std::string data;
  std::string out;
  std::string resume;
  std::string recipe;
  std::string initial;
  std::string dtype = "f32";
  RecipeFlags flags;
  int num_workers = 0;
  int64_t validate_every = 1;
  int64_t stop_after_steps = 0;
  double checkpoint_every_s = 600;
  int64_t log_every = 20;
  bool events = false;
};

Result<train::Recipe> with_flags(const train::Recipe& recipe, const RecipeFlags& flags) {
  Json json = Json::parse(train::to_json(recipe).dump());
  const auto set = [&](const char* name, const auto& value) {
    if (value) json[name] = *value;
  };
  set("architecture", flags.arch);
  set("mixer", flags.mixer);
  set("epochs", flags.epochs);
  set("batch_size", flags.batch);
  set("grad_accum_steps", flags.grad_accum);
  set("image_size", flags.image_size);
  set("seed", flags.seed);
  set("lr", flags.lr);
  set("ema_decay", flags.ema);
  set("drop_path", flags.drop_path);
  return train::parse_recipe(json, "the command line");
}

/// The recipe file's, or the defaults, or the checkpoint's that the run goes on from, changed by
/// flags; a resumed run must keep its own.
Result<train::Recipe> recipe_of(const Options& options, const train::CheckpointInfo* checkpoint) {
  train::Recipe recipe = checkpoint != nullptr ? checkpoint->recipe : train::Recipe();
  if (!options.recipe.empty()) {
    const auto text = io::read_file(options.recipe, kMaxRecipeBytes);
    if (!text) return text.error();
    const auto json = parse_json(*text, options.recipe);
    if (!json) return json.error();
    auto parsed = train::parse_recipe(*json, options.recipe);
    if (!parsed) return parsed.error();
    recipe = *std::move(parsed);
  }
  auto changed = with_flags(recipe, options.flags);
  if (!changed || checkpoint == nullptr) return changed;
  const std::string difference = train::recipe_difference(*changed, checkpoint->recipe);
  if (difference.empty()) return changed;
  return make_error(ErrorCode::kInvalidArgument,
                    "--resume {}: {}; a run goes on with its own recipe: leave these out, or begin "
                    "another run with --initial {}",
                    options.resume, difference, options.resume);
}

struct Data {
  io::ImageFolder training;
  std::optional<io::ImageFolder> validation;
};

Result<Data> open_data(const std::string& root) {
  const std::string training_root = io::split_folder(root, {"train"});
  auto training = io::open_image_folder(training_root, nullptr);
  if (!training) return training.error();
  Data data{*std::move(training), std::nullopt};
  const std::string validation_root = io::split_folder(root, {"val", "validation", "test"});
  if (training_root == root || validation_root == root) return data;
  io::ClassLabels map;
  map.names = data.training.classes;
  auto validation = io::open_image_folder(validation_root, &map);
  if (!validation) return validation.error();
  data.validation = *std::move(validation);
  return data;
}

/// What config.json of the model says, as timm's do.
OrderedJson config_json(const train::Recipe& recipe, const io::ImageFolder& folder) {
  const io::Normalization normalization;
  return {{"architecture", recipe.architecture},
          {"num_classes", folder.classes.size()},
          {"label_names", folder.classes},
          {"pretrained_cfg",
           {{"input_size", {3, recipe.image_size, recipe.image_size}},
            {"interpolation", "bicubic"},
            {"crop_pct", recipe.crop_pct},
            {"crop_mode", "center"},
            {"mean", normalization.mean},
            {"std", normalization.std}}}};
}

train::LoaderSettings loader_settings(const Options& options, const train::Recipe& recipe,
                                      const train::AugmentSettings& augment, bool training) {
  train::LoaderSettings settings;
  settings.batch_size = recipe.batch_size;
  settings.seed = recipe.seed;
  settings.num_threads = options.num_workers > 0 ? options.num_workers : default_num_threads();
  settings.training = training;
  settings.augment = augment;
  settings.preprocessing.image_size = recipe.image_size;
  settings.preprocessing.crop_pct = recipe.crop_pct;
  return settings;
}

/// model.safetensors (the averaged weights where there are some) and config.json in `out`.
Status write_model(Context& ctx, const Options& options, const train::Recipe& recipe,
                   const Data& data, models::TrainableVision& model, train::Trainer& trainer) {
  train::Optimizer& optimizer = trainer.optimizer();
  if (optimizer.has_average()) optimizer.swap_average(ctx);
  const nn::ParameterSet& set = model.parameters();
  const Status written = train::write_weights(options.out, set.stored_tensors(ctx, set.values()),
                                              trainer.state().num_updates,
                                              options.dtype == "bf16" ? DType::kBF16 : DType::kF32);
  if (optimizer.has_average()) optimizer.swap_average(ctx);
  if (!written) return written;
  return io::write_file_atomic(options.out + "/config.json",
                               config_json(recipe, data.training).dump(2) + "\n");
}

/// The run's folder, with the recipe in it; one that holds a run is not overwritten.
Status prepare_folder(const Options& options, const train::Recipe& recipe) {
  std::error_code code;
  if (options.resume.empty() && std::filesystem::exists(options.out + "/checkpoints", code)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{} holds a training run; go on with --resume {}, or take another -o",
                      options.out, options.out);
  }
  std::filesystem::create_directories(options.out, code);
  if (code) {
    return make_error(ErrorCode::kIo, "{}: the folder cannot be made ({})", options.out,
                      code.message());
  }
  return io::write_file_atomic(options.out + "/recipe.json", train::to_json(recipe).dump(2) + "\n");
}

Json result_json(const Options& options, const train::Recipe& recipe, const train::Trainer& trainer,
                 const TrainLog& log, double seconds) {
  Json result = {{"architecture", recipe.architecture},
                 {"data", options.data},
                 {"out", options.out},
                 {"num_steps", trainer.state().num_steps},
                 {"num_skipped", trainer.state().num_steps - trainer.state().num_updates},
                 {"finished", trainer.finished()},
                 {"best_top1", trainer.state().best_top1},
                 {"seconds", seconds},
                 {"recipe", Json::parse(train::to_json(recipe).dump())}};
  if (!log.epochs().empty()) result["last_epoch"] = log.epochs().back();
  return result;
}

void print_epoch(const train::EpochReport& report, const train::Recipe& recipe) {
  std::string text =
      fmt::format("epoch {}/{}  loss {:.4f}", report.epoch + 1, recipe.epochs, report.train_loss);
  if (report.validation) text += fmt::format("  top-1 {:.2f} %", 100 * report.validation->top1);
  if (report.average_validation) {
    text += fmt::format("  averaged {:.2f} %", 100 * report.average_validation->top1);
  }
  fmt::print("{}\n", text);
}

/// Everything a run needs, opened.
struct Session {
  train::Recipe recipe;
  Data data;
  std::optional<train::CheckpointInfo> checkpoint;
  models::TrainableVisionConfig network;
  train::AugmentSettings augment;
};

Result<Session> open_session(const Options& options) {
  Session session;
  if (!options.resume.empty()) {
    auto checkpoint = train::find_checkpoint(options.resume);
    if (!checkpoint) return checkpoint.error();
    session.checkpoint = *std::move(checkpoint);
  }
  auto recipe = recipe_of(options, session.checkpoint ? &*session.checkpoint : nullptr);
  if (!recipe) return recipe.error();
  session.recipe = *std::move(recipe);
  auto data = open_data(options.data);
  if (!data) return data.error();
  session.data = *std::move(data);
  const auto num_classes = static_cast<int64_t>(session.data.training.classes.size());
  if (session.checkpoint && session.checkpoint->num_classes != num_classes) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--resume {}: the run has {} classes, {} has {}; give it the data it began "
                      "with",
                      options.resume, session.checkpoint->num_classes, session.data.training.root,
                      num_classes);
  }
  auto network = train::network_of(session.recipe, num_classes);
  if (!network) return network.error();
  session.network = *std::move(network);
  const auto augment = train::augment_settings_of(session.recipe);
  if (!augment) return augment.error();
  session.augment = *augment;
  return session;
}

Status begin(const Options& options, const Session& session, train::Trainer& trainer) {
  if (session.checkpoint) return trainer.resume(*session.checkpoint);
  if (!options.initial.empty()) {
    const auto initial = io::Checkpoint::open(options.initial);
    if (initial && models::is_quantized(*initial)) {
      return make_error(ErrorCode::kInvalidArgument,
                        "--initial {}: its weights are quantized; begin with its original",
                        options.initial);
    }
    return trainer.begin_from(options.initial);
  }
  trainer.begin();
  return {};
}

/// A GPU whose memory is out: what would fit is told.
Status run_within_memory(Context& ctx, const train::Recipe& recipe, models::TrainableVision& model,
                         train::Trainer& trainer) {
  try {
    return trainer.run();
  } catch (const OutOfDeviceMemory&) {
    return train::batch_error(ctx, recipe, model);
  }
}

Status run_train(const Globals& globals, Options options) {
  Interrupt interrupt;
  if (!options.resume.empty()) {
    if (!options.out.empty() && options.out != options.resume) {
      return make_error(ErrorCode::kInvalidArgument,
                        "-o {}: a run that goes on stays in its folder, {}; leave -o out, or begin "
                        "another run with --initial {}",
                        options.out, options.resume, options.resume);
    }
    if (!options.initial.empty()) {
      return make_error(ErrorCode::kInvalidArgument,
                        "--initial {}: a run that goes on has its weights; leave it out",
                        options.initial);
    }
    options.out = options.resume;
  }
  if (options.out.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "-o OUT is missing: the folder of the run");
  }
  const auto session = open_session(options);
  if (!session) return session.error();
  const train::Recipe& recipe = session->recipe;
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  if (const Status ready = prepare_folder(options, recipe); !ready) return ready;
  models::TrainableVision model(ctx, session->network);

  SkippedFiles skipped;
  train::ImageLoader training(session->data.training,
                              loader_settings(options, recipe, session->augment, true),
                              skipped.callback());
  train::LoaderSource source(training);
  std::optional<train::ImageLoader> validation;
  std::optional<train::LoaderSource> validation_source;
  if (session->data.validation) {
    validation.emplace(*session->data.validation,
                       loader_settings(options, recipe, session->augment, false),
                       skipped.callback());
    validation_source.emplace(*validation);
  }

  const int64_t num_done = session->checkpoint ? session->checkpoint->state.num_steps : 0;
  auto log = TrainLog::open(options.out, num_done, options.log_every, options.events);
  if (!log) return log.error();
  std::optional<Progress> progress;
  train::TrainerOptions trainer_options;
  trainer_options.directory = options.out;
  trainer_options.checkpoint_every_s = options.checkpoint_every_s;
  trainer_options.validate_every_epochs = options.validate_every;
  trainer_options.stop_after_steps = options.stop_after_steps;
  trainer_options.stop_asked = [&] { return interrupt.requested(); };
  trainer_options.on_step = [&](const train::StepReport& report) {
    log->on_step(report);
    if (report.skipped) log_warning("step {}: gradients are not finite, skipped", report.step);
    progress->advance(1, fmt::format("epoch {}/{} loss {:.3f} {:.0f} images/s", report.epoch + 1,
                                     recipe.epochs, report.loss, log->images_per_s()));
  };
  trainer_options.on_epoch = [&](const train::EpochReport& report) {
    log->on_epoch(report);
    if (prints_text(globals)) print_epoch(report, recipe);
  };
  train::Trainer trainer(ctx, recipe, model, source,
                         validation_source ? &*validation_source : nullptr, trainer_options);
  if (const Status begun = begin(options, *session, trainer); !begun) return begun;
  progress.emplace("train", trainer.num_steps() - num_done, "steps", globals.quiet);
  interrupt.begin_steps("writing a checkpoint; once more ends at once");
  const Stopwatch watch;
  const Status ran = run_within_memory(ctx, recipe, model, trainer);
  progress.reset();
  if (!ran) return ran;
  if (!log->status()) return log->status();
  const Status written = write_model(ctx, options, recipe, session->data, model, trainer);
  if (!written) return written;
  Json result = result_json(options, recipe, trainer, *log, watch.seconds());
  result["skipped"] = skipped.json();
  if (prints_text(globals)) {
    fmt::print(
        "{} after {} steps: {}\n", trainer.finished() ? "done" : "stopped",
        trainer.state().num_steps,
        trainer.finished() ? options.out : fmt::format("go on with --resume {}", options.out));
  }
  return write_json_result(globals, "vision train", result);
}

void add_recipe_flags(CLI::App& command, RecipeFlags& flags) {
  command.add_option("--arch", flags.arch, "Architecture, such as inception_next_tiny");
  command.add_option("--mixer", flags.mixer,
                     "Of InceptionNeXt: \"7x7\" or another odd size puts a depthwise convolution "
                     "in the mixers' place");
  command.add_option("--epochs", flags.epochs, "Passes over the data");
  command.add_option("--batch", flags.batch, "Images of a forward pass");
  command.add_option("--grad-accum-steps", flags.grad_accum, "Forward passes of a step");
  command.add_option("--image-size", flags.image_size, "Side of what the network sees");
  command.add_option("--lr", flags.lr, "Learning rate after warm-up");
  command.add_option("--drop-path", flags.drop_path, "Rate at which the last block is dropped");
  command.add_option("--model-ema-decay", flags.ema, "Moving average of the weights; 0: none");
  command.add_option("--train-seed", flags.seed, "Of everything that is drawn");
}

}  // namespace

void add_vision_train(CLI::App& vision, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *vision.add_subcommand("train", "Train a classifier on a folder of classes");
  command
      .add_option("--data", options->data,
                  "Folder with train and val, each with a folder for each class")
      ->required();
  command.add_option("-o,--output", options->out, "Folder of the run: model, log, checkpoints");
  command.add_option("--resume", options->resume, "Go on with the run in this folder");
  command.add_option("--recipe", options->recipe, "JSON file with the recipe; flags change it");
  add_recipe_flags(command, options->flags);
  command.add_option("--initial", options->initial, "Begin with the weights in this folder");
  command.add_option("--dtype", options->dtype, "Of the model that is written")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  command.add_option("--workers", options->num_workers, "Threads that decode and augment")
      ->check(CLI::Range(0, 1024));
  command.add_option("--val-interval", options->validate_every, "Epochs; 0: never")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      .add_option("--checkpoint-every", options->checkpoint_every_s, "Seconds; 0: by epoch only")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--stop-after-steps", options->stop_after_steps, "Of the run; 0: to its end")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--log-interval", options->log_every, "Steps")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_flag("--tensorboard", options->events,
                   "Write an event file for TensorBoard beside log.jsonl");
  command.callback([&globals, &action, options] {
    action = [&globals, options] { return run_train(globals, *options); };
  });
}

}  // namespace comet::cli
