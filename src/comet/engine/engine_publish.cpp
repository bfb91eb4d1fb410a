// The second half of Engine::step: rows of logits become events.
#include <algorithm>
#include <utility>

#include "comet/engine/engine.h"
#include "comet/engine/sampled.h"
#include "comet/engine/sequence.h"
#include "comet/engine/step_batch.h"

namespace comet::engine {

void Engine::sample_rows(const Tensor& logits) {
  const auto& rows = batch_->rows();
  sampled_.clear();
  sampled_.resize(rows.size());
  const bool host_needs_logits =
      std::any_of(rows.begin(), rows.end(), [](const StepBatch::Row& row) {
        return row.seq->request.num_logprobs >= 0 || row.seq->request.max_tokens == 0 ||
               row.position + 1 < row.seq->state.num_known;
      });
  if (device_sampler_ == nullptr || host_needs_logits) return sample_rows_on_host(logits);
  sample_rows_on_device(logits);
}

/// Only tokens come back.
void Engine::sample_rows_on_device(const Tensor& logits) {
  const auto& rows = batch_->rows();
  draws_.clear();
  for (const StepBatch::Row& row : rows) {
    draws_.push_back({&row.seq->request.sampling, sample_point(*row.seq)});
  }
  device_sampler_->start(logits, draws_);
  const std::span<const DrawnToken> drawn = device_sampler_->wait();
  for (size_t i = 0; i < rows.size(); ++i) {
    sampled_[i].token = drawn[i].token;
    sampled_[i].failed = drawn[i].token < 0;
  }
}

/// Rows are independent: the compute threads share them.
void Engine::sample_rows_on_host(const Tensor& device_logits) {
  const Tensor host_logits = copy_to_host(ctx_, device_logits);
  const View<const float, 2> logits = host_logits.view<const float, 2>();
  const auto& rows = batch_->rows();
  ctx_.pool.parallel_for(static_cast<int64_t>(rows.size()), [&](int64_t i, int thread_idx) {
    sampled_[i] =
        sample_row(*rows[i].seq, rows[i].position,
                   {logits.row(i), static_cast<size_t>(logits.size(1))}, scratch_[thread_idx]);
  });
}

void Engine::publish(Sequence& seq, Sampled& sampled, int64_t position) {
  if (sampled.failed) {
    TokenEvent event;
    event.finish = FinishReason::kError;
    event.error = fmt::format("the model's logits became NaN or infinite at token {}", position);
    return finish(seq, std::move(event));
  }
  if (position + 1 < seq.state.num_known) {  // a row inside the prompt
    if (seq.prompt_logprobs.empty()) seq.prompt_logprobs.push_back({{seq.tokens[0], 0}, {}});
    seq.prompt_logprobs.push_back(*std::move(sampled.logprobs));
    return;
  }
  if (!seq.prompt_done) end_prompt(seq);
  if (seq.finished) return;
  publish_token(seq, sampled);
}

void Engine::end_prompt(Sequence& seq) {
  seq.prompt_done = true;
  stats_.num_prompt_tokens += seq.num_prompt();
  TokenEvent event;
  if (seq.request.prompt_logprobs) {
    if (seq.prompt_logprobs.empty()) seq.prompt_logprobs.push_back({{seq.tokens[0], 0}, {}});
    event.prompt_logprobs = std::exchange(seq.prompt_logprobs, {});
    if (seq.request.max_tokens > 0) return emit(seq, std::move(event));
  }
  if (seq.request.max_tokens > 0) return;
  event.finish = FinishReason::kLength;
  finish(seq, std::move(event));
}

void Engine::publish_token(Sequence& seq, Sampled& sampled) {
  const int32_t token = sampled.token;
  seq.tokens.push_back(token);
  ++seq.state.num_known;
  ++stats_.num_generation_tokens;
  if (seq.num_output() == 1) seq.times.first_token = now_;
  if (has_penalties(seq.request.sampling)) seq.counts.add_output(token);

  TokenEvent event;
  event.token = token;
  event.logprobs = std::move(sampled.logprobs);
  const bool may_end = seq.num_output() >= seq.request.min_tokens;
  const bool is_end = may_end && seq.is_end_token(token);
  if (seq.decoder && !is_end) {
    event.text = seq.decoder->push(token);
    if (may_end) event.text = seq.stops.push(event.text);
  }
  if (is_end || seq.stops.matched() != nullptr) {
    event.finish = FinishReason::kStop;
  } else if (seq.num_output() >= seq.request.max_tokens) {
    event.finish = FinishReason::kLength;
  } else {
    return emit(seq, std::move(event));
  }
  if (seq.decoder) {
    event.text += seq.stops.push(seq.decoder->flush());
    event.text += seq.stops.flush();
  }
  if (seq.stops.matched() != nullptr) {
    event.finish = FinishReason::kStop;
    event.stop_string = *seq.stops.matched();
  }
  finish(seq, std::move(event));
}

/// The last event of a sequence, after its pages have gone back.
void Engine::finish(Sequence& seq, TokenEvent event) {
  release(seq);
  seq.finished = true;
  switch (event.finish) {
    case FinishReason::kStop:
      ++stats_.num_finished_stop;
      break;
    case FinishReason::kLength:
      ++stats_.num_finished_length;
      break;
    case FinishReason::kCancelled:
      ++stats_.num_cancelled;
      break;
    default:
      ++stats_.num_failed;
  }
  emit(seq, std::move(event));
}

void Engine::emit(Sequence& seq, TokenEvent event) {
  if (!seq.request.on_event) return;
  event.request_id = seq.id;
  event.num_prompt_tokens = seq.num_prompt();
  event.num_output_tokens = seq.num_output();
  event.times = seq.times;
  event.times.now = now_;
  if (!seq.request.on_event(std::move(event))) seq.cancel_requested = true;
}

void Engine::end_cancelled() {
  const size_t count = sequences_.size();  // an on_event may submit: those come behind
  for (size_t i = 0; i < count; ++i) {
    Sequence& seq = *sequences_[i];
    if (!seq.cancel_requested || seq.finished) continue;
    TokenEvent event;
    event.finish = FinishReason::kCancelled;
    finish(seq, std::move(event));
  }
  std::erase_if(sequences_, [](const auto& seq) { return seq->finished; });
}

void Engine::fail_running(const std::string& message) {
  now_ = RequestTimes::Point::clock::now();
  const bool any_admitted = std::any_of(sequences_.begin(), sequences_.end(),
                                        [](const auto& seq) { return seq->state.admitted; });
  const size_t count = sequences_.size();  // as in end_cancelled
  for (size_t i = 0; i < count; ++i) {
    Sequence& seq = *sequences_[i];
    if (any_admitted != seq.state.admitted) continue;
    TokenEvent event;
    event.finish = FinishReason::kError;
    event.error = message;
    finish(seq, std::move(event));
  }
  std::erase_if(sequences_, [](const auto& seq) { return seq->finished; });
}

EngineStats Engine::stats() const {
  EngineStats stats = stats_;
  for (const auto& seq : sequences_) {
    if (!seq->finished) ++(seq->state.admitted ? stats.num_running : stats.num_waiting);
  }
  stats.num_free_pages = pages_.num_free();
  stats.num_pages = cache_.num_pages();
  return stats;
}

}  // namespace comet::engine
