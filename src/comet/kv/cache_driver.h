// What all KV formats do alike: walk a ragged batch over pages and threads, and call the kernels of
// the context's instruction set for each row or task. Callers: the formats' records (kv16/, kv4/,
// kv32/), which add their layout and their kernels.
#pragma once

#include "comet/kv/kv_kernels.h"
#include "comet/kv/page_layout.h"

namespace comet::kv {

const KvKernelSet& kv_kernels(CpuIsa isa);

/// See KvFormat::append.
int64_t append_rows(Context& ctx, const KvKernels& kernels, const PageLayout& layout,
                    std::byte* pages, View<const float, 3> k, View<const float, 3> v,
                    const Batch& batch);
/// See KvFormat::gather.
void gather_rows(const KvKernels& kernels, const PageLayout& layout, const std::byte* pages,
                 View<float, 3> k, View<float, 3> v, const Batch& batch, int64_t seq_idx);
/// See KvFormat::attend.
void attend_batch(Context& ctx, const KvKernels& kernels, const PageLayout& layout,
                  const KvLayer& layer, View<float, 2> out, View<const float, 3> q,
                  const Batch& batch);

/// The sequence that row token_idx of the batch belongs to (sequences may be empty).
int64_t sequence_of(const Batch& batch, int64_t token_idx);
/// The position of that row in its sequence.
inline int64_t position_of(const Batch& batch, int64_t seq_idx, int64_t token_idx) {
  return batch.kv_lens[seq_idx] - (batch.cu_seqlens[seq_idx + 1] - token_idx);
}

}  // namespace comet::kv
