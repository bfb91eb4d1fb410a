// DecodeGraphs: forward steps of one model and cache, where a GPU's decode steps that repeat are
// replayed as CUDA graphs. Caller: the engine. On a CPU a step is LlamaModel::forward.
#pragma once

#include <memory>

#include "comet/models/llama.h"

namespace comet::models {

class DecodeGraphs {
 public:
  /// All three outlive this.
  DecodeGraphs(Context& ctx, const LlamaModel& model, kv::KvCache& cache);
  DecodeGraphs(const DecodeGraphs&) = delete;
  DecodeGraphs& operator=(const DecodeGraphs&) = delete;
  ~DecodeGraphs();

  /// As LlamaModel::forward. Call with the arena as the step before found it: a graph's addresses
  /// are those of its capture.
  Tensor forward(const Batch& batch);

 private:
  struct Cached;
  Context& ctx_;
  const LlamaModel& model_;
  kv::KvCache& cache_;
  std::unique_ptr<Cached> cached_;  // nullptr on a CPU
};

}  // namespace comet::models
