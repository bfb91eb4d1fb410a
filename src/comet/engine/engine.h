// Engine: one thread owns every sequence; step() = admit → schedule → forward → sample → publish.
// Callers: generate, bench throughput, study; the server by way of EngineLoop (engine_loop.h).
// Contract: README.md of this folder.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comet/engine/engine_stats.h"
#include "comet/engine/request.h"
#include "comet/engine/sampling/device_sampler.h"
#include "comet/engine/sampling/sampler.h"
#include "comet/engine/scheduler.h"
#include "comet/models/decode_graphs.h"
#include "comet/models/llama.h"
#include "comet/text/tokenizer.h"

namespace comet::engine {

struct Sampled;
class StepBatch;
struct Sequence;

struct EngineOptions {
  SchedulerLimits limits;
  // 0: 25 % of the free memory (90 % of a GPU's), at most what max_seqs need
  int64_t kv_memory_bytes = 0;
  int64_t max_model_len = 0;  // tokens of prompt and output; 0: the model's context
  const text::Tokenizer* tokenizer = nullptr;  // outlives the engine; null: events carry no text
  std::vector<int32_t> eos_tokens;             // stop tokens of every request but ignore_eos ones
};

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> create(Context& ctx, const models::LlamaModel& model,
                                                const EngineOptions& options);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine();

  /// An error when the request can never run: empty, too long, a token or parameter out of range.
  /// Looks at nothing that changes: safe from any thread.
  [[nodiscard]] Status validate(const Request& request) const;
  /// Queues a request that validate() accepts; the id is above all earlier ones.
  Result<int64_t> submit(Request request);
  /// The same under the caller's id and time, for a request that has been validated: EngineLoop.
  void enqueue(int64_t request_id, Request request, RequestTimes::Point submitted);
  /// Ends a request at the beginning of the next step, or at the end of this one when called from
  /// an on_event; nothing happens when it has ended already.
  void cancel(int64_t request_id);
  void cancel_all();  // all that are here now
  /// One step; false when there is nothing left to do.
  bool step();
  /// After a step that threw: ends every admitted request with kError; when none is admitted, every
  /// request.
  void fail_running(const std::string& message);

  [[nodiscard]] bool has_work() const { return !sequences_.empty(); }
  [[nodiscard]] EngineStats stats() const;
  [[nodiscard]] int64_t max_model_len() const { return options_.max_model_len; }
  [[nodiscard]] int64_t max_seqs() const { return options_.limits.max_seqs; }
  [[nodiscard]] int64_t vocab_size() const { return model_.config().vocab_size; }
  [[nodiscard]] int64_t num_free_pages() const { return pages_.num_free(); }
  [[nodiscard]] const kv::KvCache& cache() const { return cache_; }

 private:
  Engine(Context& ctx, const models::LlamaModel& model, const EngineOptions& options,
         kv::KvCache cache);
  void end_cancelled();
  void apply(StepPlan& plan);
  void release(Sequence& seq);
  void sample_rows(const Tensor& logits);
  void sample_rows_on_host(const Tensor& logits);
  void sample_rows_on_device(const Tensor& logits);
  void publish(Sequence& seq, Sampled& sampled, int64_t position);
  void end_prompt(Sequence& seq);
  void publish_token(Sequence& seq, Sampled& sampled);
  void finish(Sequence& seq, TokenEvent event);
  void emit(Sequence& seq, TokenEvent event);

  Context& ctx_;
  const models::LlamaModel& model_;
  EngineOptions options_;
  kv::KvCache cache_;
  kv::PagePool pages_;
  std::vector<int32_t> free_slots_;
  std::vector<std::unique_ptr<Sequence>> sequences_;  // in order of arrival
  int64_t next_id_ = 0;
  int64_t num_saturated_rows_ = 0;  // warned about so far
  EngineStats stats_;
  RequestTimes::Point now_;  // of the present step's events

  // The present step; buffers are kept from step to step.
  std::vector<SequenceState> states_;
  std::unique_ptr<StepBatch> batch_;
  std::vector<Sampled> sampled_;
  std::vector<SamplerScratch> scratch_;  // of each compute thread
  models::DecodeGraphs graphs_;
  std::unique_ptr<DeviceSampler> device_sampler_;  // on a GPU
  std::vector<DeviceDraw> draws_;
};

}  // namespace comet::engine
