// Batch: one ragged step as flat arrays in host memory, and once staged the same where the device
// reads them. Prefill, decode and mixed steps are the same. The engine fills it, models and the KV
// cache read it.
#pragma once

#include <cstdint>
#include <span>

#include "comet/tensor/view.h"

namespace comet {

/// A batch's arrays in the device's memory (on a CPU: the host's), and what the host knows of them:
/// grids of kernels depend on nothing else.
struct DeviceBatch {
  const int32_t* tokens = nullptr;
  const int32_t* positions = nullptr;
  const int32_t* cu_seqlens = nullptr;
  const int32_t* kv_lens = nullptr;
  const int32_t* block_tables = nullptr;  // [num_seqs] rows, block_table_stride apart
  const int32_t* sample_rows = nullptr;
  const int32_t* slots =
      nullptr;  // [num_tokens] page · kPageTokens + offset of the token's K and V
  int64_t block_table_stride = 0;
  int64_t num_tokens = 0;
  int64_t num_seqs = 0;
  int64_t num_sample_rows = 0;
  int64_t num_decode_seqs = 0;  // leading sequences of one query token
  int64_t max_query_len = 0;    // of the sequences behind those
  int64_t max_kv_len = 0;       // an upper bound of kv_lens
};

struct Batch {
  std::span<const int32_t> tokens;      // [num_tokens]
  std::span<const int32_t> positions;   // [num_tokens] position of each token in its sequence
  std::span<const int32_t> cu_seqlens;  // [num_seqs + 1] tokens of sequence s are [cu[s], cu[s+1])
  std::span<const int32_t> kv_lens;     // [num_seqs] tokens in the cache once this step is appended
  View<const int32_t, 2> block_tables;  // [num_seqs, max_pages] page ids in sequence order
  std::span<const int32_t> sample_rows;  // rows of tokens whose logits are wanted, ascending
  /// [num_seqs] where a cache with a BF16 window keeps it: below the cache's num_slots, no two
  /// alike in a step, the same for all steps of a sequence. May be empty for caches without one.
  std::span<const int32_t> seq_slots = {};
  /// [num_seqs] 1: this step's tokens of the sequence are generated ones, 0: prompt. Attention then
  /// adds up in an order that depends on nothing else: neither chunks of a prompt nor computing a
  /// sequence again change a bit. Empty: in the order that suits the number of tokens.
  std::span<const uint8_t> is_generated = {};

  DeviceBatch device = {};  // set by stage_batch()

  [[nodiscard]] int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  [[nodiscard]] int64_t num_seqs() const { return static_cast<int64_t>(kv_lens.size()); }
};

}  // namespace comet
