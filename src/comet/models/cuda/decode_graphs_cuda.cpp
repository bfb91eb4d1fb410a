#include <array>
#include <map>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/device/cuda/graph.h"
#include "comet/kv/stage_batch.h"
#include "comet/models/decode_graphs.h"

namespace comet::models {
namespace {

/// What a decode step's launches depend on: sizes, and where its arrays lie in the arena.
using Key = std::array<int64_t, 7>;

Key key_of(const DeviceBatch& batch, int64_t num_arena_blocks) {
  return {batch.num_seqs,   batch.num_sample_rows, batch.block_table_stride,
          batch.max_kv_len, num_arena_blocks,      reinterpret_cast<int64_t>(batch.tokens),
          batch.num_tokens};
}

}  // namespace

struct DecodeGraphs::Cached {
  /// Beyond, the device is busy for longer than the host takes to launch.
  static constexpr int64_t kMaxSeqs = 64;
  /// Sequences come and go: all is forgotten when so many kinds of steps have been seen.
  static constexpr size_t kMaxGraphs = 64;
  // A step is captured when it comes the second time: the arena has grown and its products are
  // planned by then. Undefined until captured.
  std::map<Key, CudaGraph> graphs;
  // [kMaxSeqs, vocab] outside of the arena, which does not know what a replayed step writes there.
  Tensor logits;
};

DecodeGraphs::DecodeGraphs(Context& ctx, const LlamaModel& model, kv::KvCache& cache)
    : ctx_(ctx), model_(model), cache_(cache) {
  if (ctx.cuda == nullptr) return;
  cached_ = std::make_unique<Cached>();
  cached_->logits =
      allocate_tensor(ctx.memory, DType::kF32, {Cached::kMaxSeqs, model.config().vocab_size});
}

DecodeGraphs::~DecodeGraphs() = default;

Tensor DecodeGraphs::forward(const Batch& host_batch) {
  if (cached_ == nullptr) return model_.forward(ctx_, host_batch, cache_);
  const Batch batch = kv::stage_batch(ctx_, host_batch);
  const DeviceBatch& device = batch.device;
  if (device.num_decode_seqs != device.num_seqs || device.num_sample_rows != device.num_seqs ||
      device.num_seqs > Cached::kMaxSeqs) {
    return model_.forward_staged(ctx_, batch, cache_);
  }
  auto& graphs = cached_->graphs;
  const auto found = graphs.find(key_of(device, ctx_.arena.num_blocks_taken()));
  if (found == graphs.end()) {
    if (graphs.size() >= Cached::kMaxGraphs) graphs.clear();
    const Tensor logits = model_.forward_staged(ctx_, batch, cache_);
    graphs.try_emplace(key_of(device, ctx_.arena.num_blocks_taken()));
    return logits;
  }
  const Tensor logits = cached_->logits.slice(0, 0, device.num_sample_rows);
  if (!found->second.defined()) {
    found->second = CudaGraph::capture(ctx_.cuda->stream, [&] {
      const ArenaScope scope(ctx_.arena);
      const Tensor made = model_.forward_staged(ctx_, batch, cache_);
      COMET_CUDA(cudaMemcpyAsync(logits.raw(), made.raw(), static_cast<size_t>(made.num_bytes()),
                                 cudaMemcpyDeviceToDevice, ctx_.cuda->stream));
    });
  }
  found->second.launch(ctx_.cuda->stream);
  return logits;
}

}  // namespace comet::models
