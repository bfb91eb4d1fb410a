#include "comet/engine/step_batch.h"

#include <algorithm>

namespace comet::engine {
namespace {

/// Whether the logits behind `position` are wanted.
bool is_row_wanted(const Sequence& seq, int64_t position) {
  if (position + 1 == seq.state.num_known) return true;
  // Entry 0 of the prompt's logprobs has no row, entry i is of row i − 1; some may be there already
  // when a preempted sequence is computed again.
  const auto num_have = static_cast<int64_t>(seq.prompt_logprobs.size());
  return seq.wants_prompt_rows() && position + 1 >= num_have && position + 1 < seq.num_prompt();
}

}  // namespace

void StepBatch::clear() {
  for (auto* list : {&tokens_, &positions_, &cu_seqlens_, &kv_lens_, &sample_rows_, &seq_slots_}) {
    list->clear();
  }
  is_generated_.clear();
  seqs_.clear();
  rows_.clear();
  cu_seqlens_.push_back(0);
}

int64_t StepBatch::add(Sequence& seq, int64_t num_tokens) {
  const int64_t begin = seq.state.num_computed;
  const bool is_generated = begin >= seq.num_prompt();
  const int64_t end =
      is_generated ? begin + num_tokens : std::min(begin + num_tokens, seq.num_prompt());
  for (int64_t i = begin; i < end; ++i) {
    if (is_row_wanted(seq, i)) {
      sample_rows_.push_back(static_cast<int32_t>(tokens_.size()));
      rows_.push_back({&seq, i});
    }
    tokens_.push_back(seq.tokens[i]);
    positions_.push_back(static_cast<int32_t>(i));
  }
  cu_seqlens_.push_back(static_cast<int32_t>(tokens_.size()));
  kv_lens_.push_back(static_cast<int32_t>(end));
  seq_slots_.push_back(seq.slot);
  is_generated_.push_back(is_generated ? 1 : 0);
  seqs_.push_back(&seq);
  return end - begin;
}

Batch StepBatch::finish() {
  size_t max_pages = 1;
  for (const Sequence* seq : seqs_) max_pages = std::max(max_pages, seq->pages.size());
  block_tables_.assign(seqs_.size() * max_pages, -1);
  for (size_t i = 0; i < seqs_.size(); ++i) {
    std::copy(seqs_[i]->pages.begin(), seqs_[i]->pages.end(),
              block_tables_.begin() + static_cast<int64_t>(i * max_pages));
  }
  return {
      tokens_,
      positions_,
      cu_seqlens_,
      kv_lens_,
      {block_tables_.data(), {static_cast<int64_t>(seqs_.size()), static_cast<int64_t>(max_pages)}},
      sample_rows_,
      seq_slots_,
      is_generated_};
}

}  // namespace comet::engine
