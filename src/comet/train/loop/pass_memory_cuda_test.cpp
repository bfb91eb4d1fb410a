// A GPU whose memory is out: the error says a batch, and that batch fits.
#include <gtest/gtest.h>

#include "comet/device/memory_error.h"
#include "comet/train/loop/pass_memory.h"
#include "comet/train/loop/stripes_source.h"
#include "comet/train/loop/trainer.h"

namespace comet::train {
namespace {

/// Two steps over batches of this size.
void train(Context& ctx, Recipe recipe, models::TrainableVision& model, int64_t batch_size) {
  recipe.batch_size = batch_size;
  testing::StripesSource data(2, batch_size, 1);
  Trainer trainer(ctx, recipe, model, data, nullptr, {});
  trainer.begin();
  const Status ran = trainer.run();
  ASSERT_TRUE(ran) << ran.error().message;
}

TEST(PassMemoryCuda, TheBatchThatIsToldFits) {
  auto gpu = Runtime::cuda(0, 2);
  if (!gpu.ok()) GTEST_SKIP() << "no GPU";
  Context& ctx = (*gpu)->context();
  Recipe recipe;
  recipe.image_size = 32;
  recipe.epochs = 1;
  recipe.warmup_epochs = 0;
  recipe.batch_size = 40000;
  models::TrainableVision model(ctx, testing::small_config(models::VisionFamily::kInceptionNext));
  constexpr int64_t kLeftBytes = int64_t{768} << 20;
  const int64_t taken = free_gpu_bytes() - kLeftBytes;
  ASSERT_GT(taken, 0);
  const Tensor others = allocate_tensor(ctx.memory, DType::kU8, {taken});
  EXPECT_THROW(train(ctx, recipe, model, recipe.batch_size), OutOfDeviceMemory);
  const int64_t free_bytes = free_gpu_bytes() + static_cast<int64_t>(ctx.arena.capacity_bytes());
  const int64_t num_fit = measure_pass(ctx, recipe, model).images_in(free_bytes);
  RecordProperty("num_fit", std::to_string(num_fit));
  ASSERT_GT(num_fit, 0);
  ASSERT_LT(num_fit, recipe.batch_size);
  EXPECT_NE(batch_error(ctx, recipe, model).message.find("fit: take --batch"), std::string::npos);
  SCOPED_TRACE(fmt::format("{} fit into {} bytes", num_fit, free_bytes));
  EXPECT_NO_THROW(train(ctx, recipe, model, num_fit));
}

}  // namespace
}  // namespace comet::train
