// The training loop on a GPU: it learns, and a run that goes on from a checkpoint ends with the
// bits of an unbroken one. Skipped without a GPU.
#include <gtest/gtest.h>

#include "comet/io/file.h"
#include "comet/train/loop/stripes_source.h"
#include "comet/train/loop/trainer.h"
#include "support/temporary_folder.h"

namespace comet::train {
namespace {

using ::comet::testing::TemporaryFolder;
using testing::small_config;
using testing::StripesSource;

struct RunOnGpu {
  Recipe recipe;
  models::TrainableVision model;
  StripesSource data{6, 64, 1};
  StripesSource validation{4, 64, 2};

  RunOnGpu(Context& ctx, const Recipe& of)
      : recipe(of), model(ctx, small_config(models::VisionFamily::kInceptionNext)) {}
};

Recipe recipe_of_test() {
  Recipe recipe;
  recipe.epochs = 40;
  recipe.batch_size = 64;
  recipe.image_size = 32;
  recipe.lr = 2e-2;
  recipe.warmup_epochs = 1;
  recipe.mixup = 0.2;
  recipe.mixup_prob = 0.3;
  recipe.drop_path = 0.1;
  recipe.ema_decay = 0.9;
  return recipe;
}

TEST(TrainerCuda, LearnsAndGoesOnWithTheSameBits) {
  const auto gpu = Runtime::cuda(0, 2);
  if (!gpu) GTEST_SKIP() << gpu.error().message;
  Context& ctx = (*gpu)->context();
  const TemporaryFolder folder;
  TrainerOptions options;
  std::vector<EpochReport> epochs;
  options.directory = folder.file("whole");
  options.validate_every_epochs = 40;
  options.on_epoch = [&](const EpochReport& report) { epochs.push_back(report); };
  {
    RunOnGpu run(ctx, recipe_of_test());
    Trainer trainer(ctx, run.recipe, run.model, run.data, &run.validation, options);
    trainer.begin();
    const Status ran = trainer.run();
    ASSERT_TRUE(ran.ok()) << ran.error().message;
  }
  ASSERT_FALSE(epochs.empty());
  EXPECT_LT(epochs.back().train_loss, 0.8 * epochs.front().train_loss);
  EXPECT_GT(epochs.back().validation->top1, 0.7);
  options.directory = folder.file("broken");
  for (const int64_t stop : {100, 240}) {
    RunOnGpu run(ctx, recipe_of_test());
    options.stop_asked = nullptr;
    std::unique_ptr<Trainer> trainer;
    options.stop_asked = [&] { return trainer->state().num_steps == stop; };
    trainer =
        std::make_unique<Trainer>(ctx, run.recipe, run.model, run.data, &run.validation, options);
    if (stop == 100) {
      trainer->begin();
    } else {
      ASSERT_TRUE(trainer->resume(find_checkpoint(options.directory).value()).ok());
    }
    ASSERT_TRUE(trainer->run().ok());
  }
  for (const char* name : {"model/model.safetensors", "state/model.safetensors"}) {
    const std::string file = std::string("/checkpoints/step-000000240/") + name;
    EXPECT_EQ(io::read_file(folder.file("whole") + file, size_t{1} << 30).value(),
              io::read_file(folder.file("broken") + file, size_t{1} << 30).value())
        << name;
  }
}

}  // namespace
}  // namespace comet::train
