// The architectures Comet runs, one row each: what a family's name decides beside the fields of its
// config.json. To add a family whose decoder is LLaMA's, add a row. Private to this room.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "comet/io/config_fields.h"

namespace comet::io {

/// Which linears of attention have a bias.
enum class AttentionBias { kNone, kQkv, kConfigured };  // kConfigured: field attention_bias

struct Architecture {
  std::string_view name;        // as config.json's `architectures` says it
  std::string_view model_type;  // as config.json's `model_type` says it
  AttentionBias attention_bias;
  bool qk_norm;  // RMSNorm over head_dim on every head of q and k, before RoPE
  // What transformers takes where config.json is silent; 0: from the other fields, or none.
  int64_t num_kv_heads;
  int64_t head_dim;
  int64_t max_position_embeddings;
  int64_t sliding_window;
  bool use_sliding_window;
};

std::span<const Architecture> architectures();

/// The row that `architectures`, or `model_type` in files without it, names. On an error, which
/// `fields` then holds, the first row.
const Architecture& find_architecture(ConfigFields& fields);

/// Tokens that a position sees through the sliding window; 0: all. Comet has full attention only,
/// which is the same up to a context of that many tokens.
int64_t read_sliding_window(ConfigFields& fields, const Json& config, const Architecture& row);

}  // namespace comet::io
