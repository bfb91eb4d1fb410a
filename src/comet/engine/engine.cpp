#include "comet/engine/engine.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "comet/base/log.h"
#include "comet/io/file.h"

namespace comet::engine {
namespace {

int64_t pages_for(int64_t num_tokens) {
  return (num_tokens + kv::kPageTokens - 1) / kv::kPageTokens;
}

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
  const int64_t page_bytes = model.format().kv->page_bytes(model.kv_shape()) * config.num_layers;
  int64_t budget = fitted.kv_memory_bytes;
  if (budget == 0) {
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
  auto cache = model.make_cache(num_pages, fitted.limits.max_seqs);
  if (!cache) return cache.error();
  return std::unique_ptr<Engine>(new Engine(ctx, model, fitted, *std::move(cache)));
}

Engine::Engine(Context& ctx, const models::LlamaModel& model, const EngineOptions& options,
               kv::KvCache cache)
    : ctx_(ctx),
      model_(model),
      options_(options),
      max_model_len_(options.max_model_len),
      cache_(std::move(cache)),
      pages_(cache_.num_pages()),
      free_slots_(options.limits.max_seqs) {
  std::iota(free_slots_.rbegin(), free_slots_.rend(), 0);
}

Result<int64_t> Engine::submit(Request request) {
  const auto length = static_cast<int64_t>(request.prompt.size());
  if (length == 0) {
    return make_error(ErrorCode::kInvalidArgument, "the prompt is empty: it needs a token");
  }
  if (length + 1 > max_model_len_) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the prompt has {} tokens; the context holds {}, one of them for the answer",
                      length, max_model_len_);
  }
  for (const int32_t token : request.prompt) {
    if (token < 0 || token >= model_.config().vocab_size) {
      return make_error(ErrorCode::kInvalidArgument,
                        "prompt token {} is outside the model's vocabulary of {}", token,
                        model_.config().vocab_size);
    }
  }
  if (request.max_tokens < 1) {
    return make_error(ErrorCode::kInvalidArgument, "max_tokens is {}; expected at least 1",
                      request.max_tokens);
  }
  request.max_tokens = std::min(request.max_tokens, max_model_len_ - length);
  auto seq = std::make_unique<Sequence>();
  seq->id = next_id_++;
  seq->tokens = request.prompt;
  seq->tokens.reserve(length + request.max_tokens);
  seq->state.num_known = length;
  seq->state.pages_needed = pages_for(length + request.max_tokens);
  seq->request = std::move(request);
  sequences_.push_back(std::move(seq));
  return sequences_.back()->id;
}

bool Engine::step() {
  if (sequences_.empty()) return false;
  states_.clear();
  for (const auto& seq : sequences_) states_.push_back(seq->state);
  const StepPlan plan = plan_step(states_, pages_.num_free(), options_.limits);
  COMET_CHECK(!plan.chunks.empty(), "{} sequences wait and none can run", sequences_.size());
  for (const int64_t seq_idx : plan.admit) {
    Sequence& seq = *sequences_[seq_idx];
    COMET_CHECK(pages_.take(seq.state.pages_needed, seq.pages), "the plan exceeds the free pages");
    COMET_CHECK(!free_slots_.empty(), "the plan exceeds {} sequences", options_.limits.max_seqs);
    seq.slot = free_slots_.back();
    free_slots_.pop_back();
    seq.state.admitted = true;
  }
  fill_batch(plan);

  const ArenaScope scope(ctx_.arena);
  const Tensor logits = model_.forward(ctx_, batch_, cache_);
  if (cache_.num_saturated_rows() > num_saturated_rows_) {
    num_saturated_rows_ = cache_.num_saturated_rows();
    log_warning("{} rows of the cache exceeded FP16 and were saturated", num_saturated_rows_);
  }
  for (const StepPlan::Chunk& chunk : plan.chunks) {
    sequences_[chunk.seq_idx]->state.num_computed += chunk.num_tokens;
  }
  const View<float, 2> rows = logits.view<float, 2>();
  for (size_t i = 0; i < sampled_.size(); ++i) {
    publish(*sampled_[i], {rows.row(static_cast<int64_t>(i)), static_cast<size_t>(rows.size(1))});
  }
  std::erase_if(sequences_, [](const auto& seq) { return seq->finished; });
  return !sequences_.empty();
}

void Engine::fill_batch(const StepPlan& plan) {
  for (auto* list : {&tokens_, &positions_, &cu_seqlens_, &kv_lens_, &sample_rows_, &seq_slots_}) {
    list->clear();
  }
  sampled_.clear();
  cu_seqlens_.push_back(0);
  int64_t max_pages = 1;
  for (const StepPlan::Chunk& chunk : plan.chunks) {
    Sequence& seq = *sequences_[chunk.seq_idx];
    const int64_t begin = seq.state.num_computed;
    for (int64_t i = begin; i < begin + chunk.num_tokens; ++i) {
      tokens_.push_back(seq.tokens[i]);
      positions_.push_back(static_cast<int32_t>(i));
    }
    cu_seqlens_.push_back(static_cast<int32_t>(tokens_.size()));
    kv_lens_.push_back(static_cast<int32_t>(begin + chunk.num_tokens));
    seq_slots_.push_back(seq.slot);
    if (begin + chunk.num_tokens == seq.state.num_known) {
      sample_rows_.push_back(static_cast<int32_t>(tokens_.size()) - 1);
      sampled_.push_back(&seq);
    }
    max_pages = std::max(max_pages, static_cast<int64_t>(seq.pages.size()));
  }
  block_tables_.assign(plan.chunks.size() * max_pages, -1);
  for (size_t i = 0; i < plan.chunks.size(); ++i) {
    const auto& pages = sequences_[plan.chunks[i].seq_idx]->pages;
    std::copy(pages.begin(), pages.end(),
              block_tables_.begin() + static_cast<int64_t>(i) * max_pages);
  }
  batch_ = {tokens_,
            positions_,
            cu_seqlens_,
            kv_lens_,
            {block_tables_.data(), {static_cast<int64_t>(plan.chunks.size()), max_pages}},
            sample_rows_,
            seq_slots_};
}

void Engine::publish(Sequence& seq, std::span<float> logits) {
  // NaN logits come from NaN or infinite activations: the request cannot go on.
  if (std::isnan(logits[0])) return finish(seq, -1, FinishReason::kError);
  const int32_t token = sample_token(logits, seq.request.sampling, seq.tokens);
  seq.tokens.push_back(token);
  ++seq.state.num_known;
  const auto& stops = seq.request.stop_tokens;
  const auto num_output = static_cast<int64_t>(seq.tokens.size() - seq.request.prompt.size());
  if (std::find(stops.begin(), stops.end(), token) != stops.end()) {
    return finish(seq, token, FinishReason::kStop);
  }
  if (num_output >= seq.request.max_tokens) return finish(seq, token, FinishReason::kLength);
  if (seq.request.on_token && !seq.request.on_token({seq.id, token, FinishReason::kNone})) {
    finish(seq, -1, FinishReason::kCancelled);
  }
}

void Engine::finish(Sequence& seq, int32_t token, FinishReason reason) {
  pages_.give_back(seq.pages);
  seq.pages.clear();
  free_slots_.push_back(seq.slot);
  seq.finished = true;
  if (seq.request.on_token) seq.request.on_token({seq.id, token, reason});
}

}  // namespace comet::engine
