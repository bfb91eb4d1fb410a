#include "comet/train/loop/pass_memory.h"

#include <algorithm>
#include <cstring>

#include "comet/device/memory_error.h"
#include "comet/ops/op_table.h"

namespace comet::train {
namespace {

// Batches that are measured: their difference tells what an image takes.
constexpr int64_t kFewImages = 2;
constexpr int64_t kMoreImages = 6;
constexpr int kNumBisections = 6;  // to 2 % of what is measured
// Kept free: the library's workspaces, a captured graph, ends of blocks that are not filled.
constexpr int64_t kReserveBytes = int64_t{256} << 20;
constexpr double kFilledShare = 0.9;
// An arena's blocks double, and the first is as large as the first tensor: at worst the second of
// two, twice as large, is taken for the last byte.
constexpr double kMostTaken = 3;

/// Whether a pass needs no second block where the first has so many bytes; `capacity`: all blocks.
bool fits_in_block(Context& ctx, const Recipe& recipe, models::TrainableVision& model,
                   int64_t num_images, int64_t block_bytes, int64_t& capacity) {
  Arena arena(ctx.memory, static_cast<size_t>(block_bytes));
  Context own{ctx.device, ctx.caps, ctx.ops, arena, ctx.pool, ctx.memory, ctx.cuda};
  const ArenaScope scope(arena);
  const Shape shape{num_images, recipe.image_size, recipe.image_size, 3};
  const Tensor black = allocate_tensor(host_allocator(), ctx.ops.product_dtype, shape);
  std::memset(black.raw(), 0, static_cast<size_t>(black.num_bytes()));
  const Tensor logits = model.forward(own, copy_to_device(own, black), {true, Tensor()});
  model.backward(own, logits);
  copy_to_host(own, logits);  // waits: the memory is given back when this returns
  capacity = static_cast<int64_t>(arena.capacity_bytes());
  return arena.num_blocks_taken() == 1;
}

/// Bytes that a pass's scratch memory grows to.
int64_t scratch_bytes(Context& ctx, const Recipe& recipe, models::TrainableVision& model,
                      int64_t num_images) {
  constexpr int64_t kFirstBlock = int64_t{1} << 20;
  int64_t enough = 0;
  fits_in_block(ctx, recipe, model, num_images, kFirstBlock, enough);
  int64_t too_few = 0;
  for (int i = 0; i < kNumBisections; ++i) {
    const int64_t middle = (too_few + enough) / 2;
    int64_t ignored = 0;
    (fits_in_block(ctx, recipe, model, num_images, middle, ignored) ? enough : too_few) = middle;
  }
  return enough;
}

double gib(int64_t bytes) { return static_cast<double>(bytes) / (int64_t{1} << 30); }

}  // namespace

int64_t PassMemory::images_in(int64_t free_bytes) const {
  const auto blocks = static_cast<double>(std::max<int64_t>(0, free_bytes - kReserveBytes));
  const auto usable = static_cast<int64_t>(blocks * kFilledShare / kMostTaken);
  return std::max<int64_t>(0, (usable - fixed_bytes) / image_bytes);
}

PassMemory measure_pass(Context& ctx, const Recipe& recipe, models::TrainableVision& model) {
  const int64_t few = scratch_bytes(ctx, recipe, model, kFewImages);
  const int64_t more = scratch_bytes(ctx, recipe, model, kMoreImages);
  PassMemory memory;
  memory.image_bytes = std::max<int64_t>(1, (more - few) / (kMoreImages - kFewImages));
  memory.fixed_bytes = std::max<int64_t>(0, few - kFewImages * memory.image_bytes);
  return memory;
}

Error batch_error(const Recipe& recipe, int64_t free_bytes, int64_t num_fit) {
  const std::string start = fmt::format(
      "out of GPU memory: a batch of {} images of {} x {} pixels does not fit into the "
      "{:.1f} GiB that are left beside the weights",
      recipe.batch_size, recipe.image_size, recipe.image_size, gib(free_bytes));
  num_fit = std::min(num_fit, recipe.batch_size - 1);
  if (num_fit < 1) {
    return make_error(ErrorCode::kResourceExhausted,
                      "{}, and neither does one image; take a smaller --image-size or --arch, or "
                      "end what else uses the GPU",
                      start);
  }
  return make_error(ErrorCode::kResourceExhausted,
                    "{}; {} fit: take --batch {}, with --grad-accum-steps {} for as many images an "
                    "optimizer step",
                    start, num_fit, num_fit,
                    (recipe.batch_size * recipe.grad_accum_steps + num_fit - 1) / num_fit);
}

Error batch_error(Context& ctx, const Recipe& recipe, models::TrainableVision& model) {
  const int64_t free_bytes = free_gpu_bytes() + static_cast<int64_t>(ctx.arena.capacity_bytes());
  try {
    return batch_error(recipe, free_bytes, measure_pass(ctx, recipe, model).images_in(free_bytes));
  } catch (const OutOfDeviceMemory&) {
    return batch_error(recipe, free_bytes, 0);
  }
}

}  // namespace comet::train
