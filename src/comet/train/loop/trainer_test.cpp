// The training loop on images drawn here: it learns, it goes on from a checkpoint (also one that a
// killed process left) with the bits of an unbroken run, and what is not finite changes nothing.
#include "comet/train/loop/trainer.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <filesystem>

#include "comet/io/file.h"
#include "comet/train/loop/stripes_source.h"
#include "support/temporary_folder.h"

namespace comet::train {
namespace {

using ::comet::testing::TemporaryFolder;
using testing::small_config;
using testing::StripesSource;

constexpr int64_t kBatch = 16;

Recipe short_recipe() {
  Recipe recipe;
  recipe.epochs = 4;
  recipe.batch_size = kBatch;
  recipe.image_size = 32;
  recipe.lr = 1e-2;
  recipe.warmup_epochs = 1;
  recipe.mixup = 0.2;
  recipe.cutmix = 1.0;
  recipe.mixup_prob = 0.3;
  recipe.drop_path = 0.1;
  recipe.ema_decay = 0.9;
  return recipe;
}

/// A run with all that it owns.
struct SmallRun {
  std::unique_ptr<Runtime> runtime;
  Recipe recipe;
  models::TrainableVision model;
  StripesSource data{6, kBatch, 1};
  StripesSource validation{4, kBatch, 2};
  std::unique_ptr<Trainer> trainer;

  SmallRun(const Recipe& of, TrainerOptions options, int num_threads,
           models::VisionFamily family = models::VisionFamily::kInceptionNext)
      : runtime(Runtime::cpu(detect_cpu_isa(), num_threads)),
        recipe(of),
        model(runtime->context(), small_config(family)),
        trainer(std::make_unique<Trainer>(runtime->context(), recipe, model, data, &validation,
                                          std::move(options))) {}

  [[nodiscard]] std::vector<float> flat(const Tensor& x) const {
    return {x.data<float>(), x.data<float>() + x.num_elements()};
  }
  [[nodiscard]] std::vector<float> values() const { return flat(model.parameters().values()); }
};

/// Every file of the newest checkpoint, one after the other.
std::string checkpoint_bytes(const std::string& directory) {
  const auto info = find_checkpoint(directory);
  EXPECT_TRUE(info.ok());
  if (!info) return "";
  std::string bytes;
  for (const char* name : {"/model/model.safetensors", "/state/model.safetensors", "/run.json"}) {
    bytes += io::read_file(info->directory + name, size_t{1} << 30).value();
  }
  return bytes;
}

TEST(Trainer, LearnsAndItsAverageToo) {
  Recipe recipe = short_recipe();
  recipe.epochs = 60;
  recipe.lr = 2e-2;
  std::vector<double> losses;
  std::vector<EpochReport> epochs;
  TrainerOptions options;
  options.on_step = [&](const StepReport& report) { losses.push_back(report.loss); };
  options.on_epoch = [&](const EpochReport& report) { epochs.push_back(report); };
  SmallRun run(recipe, options, 2);
  run.trainer->begin();
  const Status ran = run.trainer->run();
  ASSERT_TRUE(ran.ok()) << ran.error().message;
  ASSERT_EQ(losses.size(), 360U);
  EXPECT_NEAR(losses.front(), std::log(4.0), 0.05);
  ASSERT_EQ(epochs.size(), 60U);
  EXPECT_GT(epochs.back().validation->top1, 0.75);
  EXPECT_GT(epochs.back().average_validation->top1, 0.75);
  EXPECT_EQ(epochs.back().validation->top5, 1.0);
  EXPECT_EQ(epochs.back().validation->num_images, 4 * kBatch);
  EXPECT_LT(epochs.back().train_loss, epochs.front().train_loss);
}

TEST(Trainer, GoesOnInTheMiddleOfAnEpochWithTheSameBits) {
  const TemporaryFolder folder;
  TrainerOptions options;
  options.directory = folder.file("whole");
  SmallRun whole(short_recipe(), options, 2);
  whole.trainer->begin();
  ASSERT_TRUE(whole.trainer->run().ok());
  EXPECT_EQ(whole.trainer->state().num_steps, 24);

  options.directory = folder.file("broken");
  for (const int64_t stop : {4, 15, 24}) {  // never at an epoch's end but the last
    options.stop_asked = nullptr;
    SmallRun part(short_recipe(), options, stop == 15 ? 1 : 2);
    TrainerOptions stopping = options;
    stopping.stop_asked = [&] { return part.trainer->state().num_steps == stop; };
    part.trainer = std::make_unique<Trainer>(part.runtime->context(), part.recipe, part.model,
                                             part.data, &part.validation, stopping);
    if (stop == 4) {
      part.trainer->begin();
    } else {
      const auto checkpoint = find_checkpoint(options.directory);
      ASSERT_TRUE(checkpoint.ok());
      EXPECT_EQ(recipe_difference(part.recipe, checkpoint->recipe), "");
      ASSERT_TRUE(part.trainer->resume(*checkpoint).ok());
    }
    ASSERT_TRUE(part.trainer->run().ok());
    EXPECT_EQ(part.trainer->state().num_steps, stop);
  }
  EXPECT_EQ(checkpoint_bytes(folder.file("whole")), checkpoint_bytes(folder.file("broken")));
}

TEST(Trainer, OtherDataIsRefused) {
  const TemporaryFolder folder;
  Recipe recipe = short_recipe();
  recipe.epochs = 1;
  TrainerOptions options;
  options.directory = folder.file("run");
  SmallRun run(recipe, options, 1);
  run.trainer->begin();
  ASSERT_TRUE(run.trainer->run());
  const auto checkpoint = find_checkpoint(options.directory).value();
  StripesSource other(7, kBatch, 1);
  Trainer resumed(run.runtime->context(), run.recipe, run.model, other, nullptr, options);
  const Status refused = resumed.resume(checkpoint);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("has 6 batches of 16 images an epoch, this one 7"),
            std::string::npos)
      << refused.error().message;
  EXPECT_TRUE(run.trainer->resume(checkpoint));
}

TEST(Trainer, AKilledRunGoesOnWithTheSameBits) {
  const TemporaryFolder folder;
  TrainerOptions options;
  options.directory = folder.file("killed");
  options.checkpoint_every_steps = 4;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    options.on_step = [](const StepReport& report) {
      if (report.step == 15) ::raise(SIGKILL);
    };
    SmallRun run(short_recipe(), options, 2);
    run.trainer->begin();
    (void)run.trainer->run();
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

  // What a kill in the middle of a checkpoint leaves is passed over.
  std::filesystem::create_directories(folder.file("killed/checkpoints/step-000000014.partial"));
  const auto checkpoint = find_checkpoint(options.directory);
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_EQ(checkpoint->state.num_steps, 12);
  SmallRun rest(short_recipe(), options, 2);
  ASSERT_TRUE(rest.trainer->resume(*checkpoint).ok());
  ASSERT_TRUE(rest.trainer->run().ok());

  options.directory = folder.file("whole");
  SmallRun whole(short_recipe(), options, 1);
  whole.trainer->begin();
  ASSERT_TRUE(whole.trainer->run().ok());
  EXPECT_EQ(checkpoint_bytes(folder.file("killed")), checkpoint_bytes(folder.file("whole")));
}

TEST(Trainer, WhatIsNotFiniteChangesNothingAndEndsTheRun) {
  TrainerOptions options;
  SmallRun run(short_recipe(), options, 1);
  int64_t num_skipped = 0;
  std::vector<float> before;
  std::vector<float> buffers;
  nn::ParameterSet& set = run.model.parameters();
  options.on_step = [&](const StepReport& report) {
    num_skipped += report.skipped ? 1 : 0;
    if (report.step != 3) return;
    set.values().data<float>()[0] = NAN;  // of the stem: nothing behind it is finite
    before = run.values();
    buffers = run.flat(set.buffer_values());
  };
  Recipe recipe = short_recipe();
  recipe.epochs = 100;
  run.recipe = recipe;
  run.trainer = std::make_unique<Trainer>(run.runtime->context(), run.recipe, run.model, run.data,
                                          &run.validation, options);
  run.trainer->begin();
  const Status ran = run.trainer->run();
  ASSERT_FALSE(ran.ok());
  EXPECT_NE(ran.error().message.find("25 steps in a row"), std::string::npos);
  EXPECT_EQ(num_skipped, 24);  // the last one is the error
  EXPECT_EQ(run.trainer->state().num_updates, 3);
  EXPECT_EQ(run.flat(set.buffer_values()), buffers);
  std::vector<float> after = run.values();
  after[0] = before[0] = 0.0F;
  EXPECT_EQ(after, before);
}

TEST(Trainer, TwoHalvesOfABatchAreTheWhole) {
  std::vector<std::vector<float>> results;
  for (const int64_t num_parts : {1, 2}) {
    Recipe recipe = short_recipe();
    recipe.mixup_prob = 0;
    recipe.drop_path = 0;
    recipe.batch_size = kBatch / num_parts;
    recipe.grad_accum_steps = num_parts;
    TrainerOptions options;
    options.stop_after_steps = 1;
    options.validate_every_epochs = 0;
    SmallRun run(recipe, options, 1, models::VisionFamily::kConvNext);  // no batch norm
    // Half batches that are halves of the whole one.
    class Halves final : public BatchSource {
     public:
      Halves(StripesSource& whole, int64_t parts) : whole_(whole), num_parts_(parts) {}
      [[nodiscard]] int64_t num_batches() const override { return 6 * num_parts_; }
      void start(int64_t epoch, int64_t batch_idx) override {
        whole_.start(epoch, batch_idx / num_parts_);
      }
      Result<ImageBatch> next(ImageBatch) override {
        if (part_ == 0) batch_ = whole_.next({}).value();
        ImageBatch half = batch_;
        const auto n = static_cast<int64_t>(batch_.labels.size()) / num_parts_;
        const int64_t bytes = n * 32 * 32 * 3;
        half.labels.assign(batch_.labels.begin() + part_ * n,
                           batch_.labels.begin() + (part_ + 1) * n);
        half.pixels.assign(batch_.pixels.begin() + part_ * bytes,
                           batch_.pixels.begin() + (part_ + 1) * bytes);
        part_ = (part_ + 1) % num_parts_;
        return half;
      }

     private:
      StripesSource& whole_;
      int64_t num_parts_;
      int64_t part_ = 0;
      ImageBatch batch_;
    } halves(run.data, num_parts);
    Trainer trainer(run.runtime->context(), run.recipe, run.model, halves, nullptr, options);
    trainer.begin();
    ASSERT_TRUE(trainer.run().ok());
    results.push_back(run.flat(run.model.parameters().grads()));
  }
  double size = 0;
  double difference = 0;
  for (size_t i = 0; i < results[0].size(); ++i) {
    size += double{results[0][i]} * double{results[0][i]};
    difference += std::pow(double{results[0][i]} - double{results[1][i]}, 2);
  }
  EXPECT_GT(size, 0.0);
  EXPECT_LT(std::sqrt(difference / size), 1e-5);
}

TEST(Trainer, WeightsOfAnotherNetworkAreRefusedByName) {
  const TemporaryFolder folder;
  TrainerOptions options;
  SmallRun convnext(short_recipe(), options, 1, models::VisionFamily::kConvNext);
  Context& ctx = convnext.runtime->context();
  convnext.trainer->begin();
  const nn::ParameterSet& set = convnext.model.parameters();
  ASSERT_TRUE(
      write_weights(folder.file("w"), set.stored_tensors(ctx, set.values()), 0, DType::kBF16).ok());
  SmallRun inception(short_recipe(), options, 1);
  const Status read = inception.trainer->begin_from(folder.file("w"));
  ASSERT_FALSE(read.ok());
  EXPECT_NE(
      read.error().message.find("'stages.0.blocks.0.token_mixer.dwconv_hw.weight' is missing"),
      std::string::npos)
      << read.error().message;
  EXPECT_NE(read.error().message.find("and "), std::string::npos);
  SmallRun again(short_recipe(), options, 1, models::VisionFamily::kConvNext);
  EXPECT_TRUE(again.trainer->begin_from(folder.file("w")).ok());
  EXPECT_FALSE(find_checkpoint(folder.file("nowhere")).ok());
}

}  // namespace
}  // namespace comet::train
