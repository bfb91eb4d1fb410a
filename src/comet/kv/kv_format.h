// KvFormat: how keys and values lie in a page of the cache, as a record of functions. A page holds
// kPageTokens tokens of one layer, K and V of all KV heads; to the page pool and the scheduler it
// is opaque bytes. Formats: kv16 (BF16), kv8, kv4, kv8_fp8 (docs/formats.md §3); kv32 (FP32) is for
// tests only.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "comet/base/result.h"
#include "comet/kv/batch.h"
#include "comet/ops/context.h"
#include "comet/tensor/view.h"

namespace comet::kv {

constexpr int64_t kPageTokens = 32;
constexpr int64_t kMaxHeadDim = 512;

struct KvShape {
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
};

/// kv_cache of a checkpoint, beside the format's name (docs/formats.md §3).
struct KvOptions {
  bool rotate = false;  // Hadamard of head_dim points on q and k, after RoPE
  // A query at position p reads positions < window_first and > p − window_recent in BF16.
  int64_t window_first = 0;
  int64_t window_recent = 0;

  [[nodiscard]] bool has_window() const { return window_first > 0 || window_recent > 0; }
};

/// What a layer's keys and values are divided by in a format that has scales.
struct KvScales {
  float key = 1.0F;
  float value = 1.0F;
};

/// An error that names the field: a window that is negative or takes more than max_tokens, a
/// rotation of a head_dim that is no power of two.
Status check_kv_options(const KvOptions& options, int64_t head_dim, int64_t max_tokens);

/// What attention reads in BF16 instead of from the pages of a layer. Empty: both counts 0.
struct KvWindow {
  int64_t num_first = 0;
  int64_t num_recent = 0;
  /// [slot][kv_head][K, V][num_first + num_recent][head_dim] of earlier steps: window/window_row.h.
  const uint16_t* rows = nullptr;
  View<const float, 3> k;  // this step's, [tokens, kv_heads, head_dim]
  View<const float, 3> v;
};

/// What attention reads of one layer.
struct KvLayer {
  const std::byte* pages = nullptr;  // page p at p · page_bytes
  KvWindow window;
};

struct KvFormat {
  std::string_view name;
  /// Rows of a page are worth less than BF16: a window makes a difference.
  bool narrow = true;
  /// Rows are divided by KvScales before append.
  bool has_scales = false;
  /// Bytes of one page of one layer (a multiple of 64).
  int64_t (*page_bytes)(const KvShape& shape);
  /// Writes the step's k and v [tokens, kv_heads, head_dim] (after RoPE) to their places in `pages`
  /// (base of this layer's pool; page p at p · page_bytes). Returns how many rows overflowed the
  /// format's scales and were saturated: a caller that logs warns of them.
  int64_t (*append)(Context& ctx, const KvShape& shape, std::byte* pages, View<const float, 3> k,
                    View<const float, 3> v, const Batch& batch);
  /// Causal attention of q [tokens, heads, head_dim] over the cache, scale 1/√head_dim, GQA by head
  /// groups; out [tokens, heads · head_dim].
  void (*attend)(Context& ctx, const KvShape& shape, const KvLayer& layer, View<float, 2> out,
                 View<const float, 3> q, const Batch& batch);
  /// The cached K and V of sequence seq_idx as FP32 [kv_len, kv_heads, head_dim] (reference,
  /// tests).
  void (*gather)(const KvShape& shape, const std::byte* pages, View<float, 3> k, View<float, 3> v,
                 const Batch& batch, int64_t seq_idx);
};

/// Formats a user can name (kv16, kv8, kv4, kv8_fp8).
std::span<const KvFormat* const> kv_formats();
Result<const KvFormat*> find_kv_format(std::string_view name);
/// FP32 cache for tests against transformers; not in kv_formats().
const KvFormat& kv32_format();

}  // namespace comet::kv
