// Engine: one thread owns every sequence; step() = admit → schedule → forward → sample → publish.
// Callers: generate, bench throughput, study. Contract: README.md of this folder.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "comet/engine/sampler.h"
#include "comet/engine/scheduler.h"
#include "comet/models/llama.h"

namespace comet::engine {

enum class FinishReason { kNone, kStop, kLength, kCancelled, kError };

struct TokenEvent {
  int64_t request_id = 0;
  int32_t token = -1;  // −1: no token in this event (cancelled, error)
  FinishReason finish = FinishReason::kNone;
};

struct Request {
  std::vector<int32_t> prompt;
  int64_t max_tokens = 128;
  std::vector<int32_t> stop_tokens;  // end the request; published as its last token
  SamplingParams sampling;
  /// Called on the engine's thread for each token; false cancels the request.
  std::function<bool(const TokenEvent&)> on_token;
};

struct EngineOptions {
  SchedulerLimits limits;
  int64_t kv_memory_bytes = 0;  // 0: 25 % of the free memory, at most what max_seqs need
  int64_t max_model_len = 0;    // tokens of prompt and output; 0: the model's context
};

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> create(Context& ctx, const models::LlamaModel& model,
                                                const EngineOptions& options);

  /// Queues a request; an error when it can never run (empty, too long, token out of range).
  Result<int64_t> submit(Request request);
  /// One step; false when there is nothing left to do.
  bool step();

  [[nodiscard]] int64_t max_model_len() const { return max_model_len_; }
  [[nodiscard]] int64_t num_free_pages() const { return pages_.num_free(); }
  [[nodiscard]] const kv::KvCache& cache() const { return cache_; }

 private:
  struct Sequence {
    int64_t id;
    Request request;
    std::vector<int32_t> tokens;  // prompt and output
    std::vector<int32_t> pages;
    int32_t slot = -1;  // of the cache's window, while admitted
    SequenceState state;
    bool finished = false;
  };
  Engine(Context& ctx, const models::LlamaModel& model, const EngineOptions& options,
         kv::KvCache cache);
  void fill_batch(const StepPlan& plan);
  void publish(Sequence& seq, std::span<float> logits);
  void finish(Sequence& seq, int32_t token, FinishReason reason);

  Context& ctx_;
  const models::LlamaModel& model_;
  EngineOptions options_;
  int64_t max_model_len_;
  kv::KvCache cache_;
  kv::PagePool pages_;
  std::vector<int32_t> free_slots_;
  std::vector<std::unique_ptr<Sequence>> sequences_;  // in order of arrival
  int64_t next_id_ = 0;
  int64_t num_saturated_rows_ = 0;  // warned about so far

  // The batch of the present step; buffers are kept from step to step.
  std::vector<SequenceState> states_;
  std::vector<int32_t> tokens_, positions_, cu_seqlens_, kv_lens_, sample_rows_, seq_slots_,
      block_tables_;
  std::vector<Sequence*> sampled_;
  Batch batch_;
};

}  // namespace comet::engine
