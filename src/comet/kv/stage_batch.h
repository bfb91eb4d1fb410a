// stage_batch: a batch's arrays go where the device reads them, in one copy. Caller: models, at the
// beginning of a step.
#pragma once

#include "comet/kv/batch.h"
#include "comet/ops/context.h"

namespace comet::kv {

/// `batch` with Batch::device set. On a GPU the arrays lie in ctx.arena, at addresses that depend
/// on the batch's sizes alone, and are there for kernels that are launched behind this call.
Batch stage_batch(Context& ctx, const Batch& batch);

/// Arrays behind one another, as they travel: where each begins, in int32 elements.
struct StagedLayout {
  int64_t tokens, positions, cu_seqlens, kv_lens, block_tables, sample_rows, slots, total;
};
StagedLayout staged_layout(const Batch& batch);
/// Writes the arrays to `words` [layout.total].
void write_staged(const Batch& batch, const StagedLayout& layout, int32_t* words);
/// What the host knows of the batch, and pointers into `words` in the device's memory.
DeviceBatch device_batch(const Batch& batch, const StagedLayout& layout, const int32_t* words);

/// The GPU's half of stage_batch.
Batch stage_batch_cuda(Context& ctx, const Batch& batch);

}  // namespace comet::kv
