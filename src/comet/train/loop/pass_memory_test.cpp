// What a pass takes, and what a batch that does not fit is told with.
#include "comet/train/loop/pass_memory.h"

#include <gtest/gtest.h>

#include "comet/train/loop/stripes_source.h"

namespace comet::train {
namespace {

TEST(PassMemory, IsWhatAPassOfAnotherSizeTakes) {
  for (const auto family :
       {models::VisionFamily::kInceptionNext, models::VisionFamily::kConvNext}) {
    const auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
    Context& ctx = runtime->context();
    models::TrainableVision model(ctx, testing::small_config(family));
    Recipe recipe;
    recipe.image_size = 64;
    const PassMemory memory = measure_pass(ctx, recipe, model);
    constexpr int64_t kNumImages = 32;
    const int64_t bytes = memory.fixed_bytes + kNumImages * memory.image_bytes;
    for (const double share : {0.8, 1.2}) {
      Arena arena(ctx.memory, static_cast<size_t>(share * static_cast<double>(bytes)));
      Context own{ctx.device, ctx.caps, ctx.ops, arena, ctx.pool, ctx.memory, ctx.cuda};
      const ArenaScope scope(arena);
      const Tensor images = allocate_tensor(host_allocator(), DType::kF32, {kNumImages, 64, 64, 3});
      std::fill_n(images.data<float>(), images.num_elements(), 0.5F);
      model.backward(own, model.forward(own, images, {true, Tensor()}));
      EXPECT_EQ(arena.num_blocks_taken() == 1, share > 1) << share;
    }
  }
}

TEST(PassMemory, ImagesFitIntoBlocksThatDouble) {
  constexpr int64_t kMiB = 1 << 20;
  const PassMemory memory{.fixed_bytes = kMiB, .image_bytes = 10 * kMiB};
  EXPECT_EQ(memory.images_in(256 * kMiB + 1023 * kMiB), 30);  // 0.9 of a third of it, less 1
  EXPECT_EQ(memory.images_in(10 * kMiB), 0);
}

TEST(PassMemory, TheErrorSaysTheBatch) {
  Recipe recipe;
  recipe.batch_size = 100;
  const Error error = batch_error(recipe, int64_t{3} << 30, 41);
  EXPECT_EQ(error.code, ErrorCode::kResourceExhausted);
  for (const char* part :
       {"100 images of 224 x 224", "3.0 GiB", "41 fit: take --batch 41", "--grad-accum-steps 3"}) {
    EXPECT_NE(error.message.find(part), std::string::npos) << error.message;
  }
  EXPECT_NE(batch_error(recipe, 1 << 20, 0).message.find("neither does one image"),
            std::string::npos);
}

}  // namespace
}  // namespace comet::train
