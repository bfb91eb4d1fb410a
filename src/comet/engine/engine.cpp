#include "comet/engine/engine.h"

#include <algorithm>
#include <numeric>

#include "comet/base/log.h"
#include "comet/engine/sampled.h"
#include "comet/engine/sequence.h"
#include "comet/engine/step_batch.h"
#include "comet/io/file.h"

namespace comet::engine {
namespace {

/// Logits of prompt rows that one step may ask for.
constexpr int64_t kMaxPromptLogitBytes = int64_t{64} << 20;
/// One page in so many stays free when a sequence joins others.
constexpr int64_t kWatermarkShare = 100;

}  // namespace

Result<std::unique_ptr<Engine>> Engine::create(Context& ctx, const models::LlamaModel& model,
                                               const EngineOptions& options) {
  const io::ModelConfig& config = model.config();
  EngineOptions fitted = options;
  const bool auto_len = fitted.max_model_len == 0;
  if (auto_len) fitted.max_model_len = config.max_position_embeddings;
  if (fitted.max_model_len > config.max_position_embeddings) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--max-model-len {}: the model's context is {} tokens", fitted.max_model_len,
                      config.max_position_embeddings);
  }
  if (fitted.limits.max_batch_tokens == 0) {
    constexpr int64_t kOnCpu = 512;
    constexpr int64_t kOnGpu = 8192;
    fitted.limits.max_batch_tokens = ctx.device.kind == DeviceKind::kCuda ? kOnGpu : kOnCpu;
  }
  const int64_t page_bytes = model.format().kv->page_bytes(model.kv_shape()) * config.num_layers;
  int64_t budget = fitted.kv_memory_bytes;
  if (budget == 0 && ctx.device.kind == DeviceKind::kCuda) {
    budget = free_gpu_bytes() / 10 * 9;  // the rest is for a step's activations
  } else if (budget == 0) {
    const auto available = io::available_memory_bytes();
    if (!available) return available.error();
    budget = static_cast<int64_t>(*available / 4);
  }
  const int64_t wanted = pages_for(fitted.max_model_len) * fitted.limits.max_seqs;
  // A BF16 window of the cache takes a slot per sequence, whatever its length.
  const int64_t window_bytes = model.window_bytes_per_slot() * fitted.limits.max_seqs;
  const int64_t num_pages = std::min((budget - window_bytes) / page_bytes, wanted);
  if (num_pages < 1 || (!auto_len && num_pages < pages_for(fitted.max_model_len))) {
    return make_error(ErrorCode::kResourceExhausted,
                      "--kv-memory: {} bytes hold {} tokens of cache; one sequence of "
                      "{} tokens needs {} bytes",
                      budget, std::max<int64_t>(0, num_pages) * kv::kPageTokens,
                      fitted.max_model_len,
                      window_bytes + pages_for(fitted.max_model_len) * page_bytes);
  }
  fitted.max_model_len = std::min(fitted.max_model_len, num_pages * kv::kPageTokens);
  fitted.limits.watermark_pages = num_pages / kWatermarkShare;
  fitted.limits.max_prompt_rows = std::max<int64_t>(
      1, kMaxPromptLogitBytes / (config.vocab_size * static_cast<int64_t>(sizeof(float))));
  auto cache = model.make_cache(ctx, num_pages, fitted.limits.max_seqs);
  if (!cache) return cache.error();
  return std::unique_ptr<Engine>(new Engine(ctx, model, fitted, *std::move(cache)));
}

Engine::Engine(Context& ctx, const models::LlamaModel& model, const EngineOptions& options,
               kv::KvCache cache)
    : ctx_(ctx),
      model_(model),
      options_(options),
      cache_(std::move(cache)),
      pages_(cache_.num_pages()),
      free_slots_(options.limits.max_seqs),
      batch_(std::make_unique<StepBatch>()),
      scratch_(ctx.pool.num_threads()),
      graphs_(ctx, model, cache_) {
  std::iota(free_slots_.rbegin(), free_slots_.rend(), 0);
  if (ctx.cuda != nullptr) device_sampler_ = std::make_unique<DeviceSampler>(ctx);
}

Engine::~Engine() = default;

Status Engine::validate(const Request& request) const {
  return check_request(
      request, {model_.config().vocab_size, options_.max_model_len, options_.tokenizer != nullptr});
}

Result<int64_t> Engine::submit(Request request) {
  if (auto status = validate(request); !status) return status.error();
  const int64_t request_id = next_id_++;
  enqueue(request_id, std::move(request), RequestTimes::Point::clock::now());
  return request_id;
}

void Engine::enqueue(int64_t request_id, Request request, RequestTimes::Point submitted) {
  const auto num_prompt = static_cast<int64_t>(request.prompt.size());
  request.max_tokens = std::min(request.max_tokens, options_.max_model_len - num_prompt);
  auto seq = std::make_unique<Sequence>();
  seq->id = request_id;
  seq->times.submitted = submitted;
  seq->tokens.reserve(num_prompt + std::min<int64_t>(request.max_tokens, kv::kPageTokens));
  seq->tokens = request.prompt;
  seq->state.num_known = num_prompt;
  seq->end_tokens = request.stop_tokens;
  if (!request.ignore_eos) {
    seq->end_tokens.insert(seq->end_tokens.end(), options_.eos_tokens.begin(),
                           options_.eos_tokens.end());
  }
  if (has_penalties(request.sampling)) seq->counts.add_prompt(request.prompt);
  if (options_.tokenizer != nullptr) {
    seq->decoder.emplace(*options_.tokenizer, request.skip_special_tokens);
    seq->stops = StopMatcher(request.stop_strings);
  }
  seq->request = std::move(request);
  sequences_.push_back(std::move(seq));
}

void Engine::cancel(int64_t request_id) {
  for (const auto& seq : sequences_) {
    if (seq->id == request_id) seq->cancel_requested = true;
  }
}

void Engine::cancel_all() {
  for (const auto& seq : sequences_) seq->cancel_requested = true;
}

bool Engine::step() {
  now_ = RequestTimes::Point::clock::now();
  end_cancelled();
  if (sequences_.empty()) return false;
  const RequestTimes::Point begin = now_;
  states_.clear();
  for (const auto& seq : sequences_) {
    states_.push_back(seq->state);
    states_.back().wants_prompt_rows = seq->wants_prompt_rows();
  }
  StepPlan plan = plan_step(states_, pages_.num_free(), options_.limits);
  COMET_CHECK(!plan.chunks.empty(), "{} sequences wait and none can run", sequences_.size());
  apply(plan);

  const auto seconds = [](RequestTimes::Point from, RequestTimes::Point to) {
    return std::chrono::duration<double>(to - from).count();
  };
  const RequestTimes::Point launched = RequestTimes::Point::clock::now();
  {
    const ArenaScope scope(ctx_.arena);
    const Batch batch = batch_->finish();
    stats_.last_batch_tokens = batch.num_tokens();
    stats_.last_batch_seqs = batch.num_seqs();
    const Tensor logits = graphs_.forward(batch);
    if (cache_.num_saturated_rows() > num_saturated_rows_) {
      num_saturated_rows_ = cache_.num_saturated_rows();
      log_warning("{} rows of the cache exceeded FP16 and were saturated", num_saturated_rows_);
    }
    sample_rows(logits);
  }
  const RequestTimes::Point sampled = now_ = RequestTimes::Point::clock::now();
  for (const StepPlan::Chunk& chunk : plan.chunks) {
    sequences_[chunk.seq_idx]->state.num_computed += chunk.num_tokens;
  }
  for (size_t i = 0; i < sampled_.size(); ++i) {
    const StepBatch::Row& row = batch_->rows()[i];
    if (!row.seq->finished) publish(*row.seq, sampled_[i], row.position);
  }
  end_cancelled();
  ++stats_.num_steps;
  stats_.last_step_s = seconds(begin, RequestTimes::Point::clock::now());
  if (stats_.last_batch_tokens == stats_.last_batch_seqs) {
    stats_.decode_s += stats_.last_step_s;
    stats_.decode_host_s += stats_.last_step_s - seconds(launched, sampled);
  }
  return !sequences_.empty();
}

/// Takes and gives back pages and slots, and fills the batch.
void Engine::apply(StepPlan& plan) {
  for (const int64_t seq_idx : plan.preempt) {
    release(*sequences_[seq_idx]);
    ++stats_.num_preemptions;
  }
  for (const int64_t seq_idx : plan.admit) {
    Sequence& seq = *sequences_[seq_idx];
    COMET_CHECK(!free_slots_.empty(), "the plan exceeds {} sequences", options_.limits.max_seqs);
    seq.slot = free_slots_.back();
    free_slots_.pop_back();
    seq.state.admitted = true;
    if (seq.times.admitted == RequestTimes::Point{}) seq.times.admitted = now_;
  }
  batch_->clear();
  for (StepPlan::Chunk& chunk : plan.chunks) {
    Sequence& seq = *sequences_[chunk.seq_idx];
    COMET_CHECK(pages_.take(chunk.take_pages, seq.pages), "the plan exceeds the free pages");
    seq.state.num_pages = static_cast<int64_t>(seq.pages.size());
    chunk.num_tokens = batch_->add(seq, chunk.num_tokens);
  }
}

/// Pages and slot go back; what was computed is forgotten.
void Engine::release(Sequence& seq) {
  if (!seq.state.admitted) return;
  pages_.give_back(seq.pages);
  seq.pages.clear();
  free_slots_.push_back(seq.slot);
  seq.slot = -1;
  seq.state.admitted = false;
  seq.state.num_computed = 0;
  seq.state.num_pages = 0;
}

}  // namespace comet::engine
