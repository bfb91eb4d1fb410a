// StepBatch: the flat arrays of one step (Batch), filled sequence by sequence. Buffers are kept
// from step to step.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comet/engine/sequence.h"
#include "comet/kv/batch.h"

namespace comet::engine {

class StepBatch {
 public:
  /// A row of logits: what follows position `position` of `seq`.
  struct Row {
    Sequence* seq;
    int64_t position;
  };

  void clear();
  /// The next num_tokens tokens of `seq`, whose pages hold them, or fewer: a step has its prompt or
  /// its generated tokens, never both (Batch::is_generated). Returns how many. Wants the logits of
  /// its last known token and, where it asks for them, of its prompt.
  int64_t add(Sequence& seq, int64_t num_tokens);
  /// Call when all have been added; valid until clear().
  [[nodiscard]] Batch finish();

  [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }

 private:
  std::vector<Sequence*> seqs_;
  std::vector<Row> rows_;
  std::vector<int32_t> tokens_, positions_, cu_seqlens_, kv_lens_, sample_rows_, seq_slots_,
      block_tables_;
  std::vector<uint8_t> is_generated_;
};

}  // namespace comet::engine
