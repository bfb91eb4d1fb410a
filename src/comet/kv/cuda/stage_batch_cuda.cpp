#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/kv/kv_cache.h"
#include "comet/kv/stage_batch.h"

namespace comet::kv {

Batch stage_batch_cuda(Context& ctx, const Batch& batch) {
  const StagedLayout layout = staged_layout(batch);
  const size_t num_bytes = static_cast<size_t>(layout.total) * sizeof(int32_t);
  write_staged(batch, layout, static_cast<int32_t*>(ctx.cuda->staging.begin(num_bytes)));
  const auto* words = ctx.arena.alloc_array<int32_t>(layout.total);
  ctx.cuda->staging.send(const_cast<int32_t*>(words), num_bytes, ctx.cuda->stream);
  Batch staged = batch;
  staged.device = device_batch(batch, layout, words);
  return staged;
}

}  // namespace comet::kv
