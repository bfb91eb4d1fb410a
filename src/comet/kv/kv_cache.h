// KvCache: the pages of all layers in one KV format. PagePool: which pages are free (host only).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "comet/kv/kv_format.h"
#include "comet/kv/window/window_store.h"
#include "comet/tensor/rows.h"

namespace comet::kv {

/// q, k and v as the product left them, and what happens to them before attention. On a GPU all
/// pointers are of its memory.
struct HeadsInput {
  Rows q;  // [tokens, heads · head_dim]
  Rows k;  // [tokens, kv_heads · head_dim]
  ConstRows v;
  View<const float, 1> q_norm;  // [head_dim] weights of an RMSNorm of every head, or empty
  View<const float, 1> k_norm;
  float norm_eps = 0.0F;
  std::span<const float> inv_freq;  // [head_dim/2] of RoPE
};

/// On a CPU, in place: RMSNorm of the heads of q and k where it is given, then RoPE.
void norm_and_rotate_heads(Context& ctx, const HeadsInput& heads, int64_t head_dim,
                           std::span<const int32_t> positions);

class KvCache {
 public:
  /// Memory for num_pages pages in each of num_layers layers; head_dim even and ≤ kMaxHeadDim.
  /// With a window (options), also for the windows of num_slots sequences: Batch::seq_slots. The
  /// memory is that of ctx's device, of the host without a context.
  static Result<KvCache> create(const KvFormat& format, const KvShape& shape, int64_t num_layers,
                                int64_t num_pages, const KvOptions& options = {},
                                int64_t num_slots = 1, Context* ctx = nullptr);

  /// One row per layer, all > 0; without them a format that has scales divides by 1. Others ignore
  /// them.
  void set_scales(std::vector<KvScales> scales);

  /// Bytes that one token takes in all layers, windows apart.
  [[nodiscard]] int64_t bytes_per_token() const;
  [[nodiscard]] int64_t num_pages() const { return num_pages_; }
  /// Rows (one token of one KV head, K or V) that attend has saturated so far; on a GPU those of
  /// the steps that have ended.
  [[nodiscard]] int64_t num_saturated_rows() const;
  [[nodiscard]] const KvFormat& format() const { return *format_; }
  [[nodiscard]] const KvShape& shape() const { return shape_; }

  /// Norms and RoPE of this step's heads, then attend() of them as below; out
  /// [tokens, heads · head_dim] of the type that products have. `batch` is staged (stage_batch).
  Tensor attend(Context& ctx, int64_t layer_idx, const HeadsInput& heads, const Batch& batch);

  /// On a CPU:
  /// appends this step's k and v [tokens, kv_heads, head_dim] (k after RoPE), then causal attention
  /// of q [tokens, heads, head_dim] over all that the sequences have appended; the result
  /// [tokens, heads · head_dim] is in ctx.arena. Once per layer and step; a sequence's tokens pass
  /// in order from position 0. A rotated cache rotates q and k in place, one with scales divides k
  /// and multiplies q by them.

  Tensor attend(Context& ctx, int64_t layer_idx, View<float, 3> q, View<float, 3> k,
                View<const float, 3> v, const Batch& batch);

  /// What the pages hold of sequence seq_idx, as FP32 [kv_len, kv_heads, head_dim]: k rotated where
  /// the cache is, rows divided by scales where it has them, the window not looked at. For tests
  /// and references.
  void gather(int64_t layer_idx, View<float, 3> k, View<float, 3> v, const Batch& batch,
              int64_t seq_idx) const;

 private:
  [[nodiscard]] std::byte* layer_pages(int64_t layer_idx) const;

  const KvFormat* format_ = nullptr;
  KvShape shape_;
  KvOptions options_;
  int64_t num_pages_ = 0;
  int64_t num_layers_ = 0;
  int64_t layer_bytes_ = 0;
  int64_t num_saturated_rows_ = 0;           // of attend on a CPU
  std::shared_ptr<Storage> saturated_rows_;  // of attend on a GPU: its kernels add to it
  std::shared_ptr<Storage> storage_;
  std::vector<KvScales> scales_;  // [num_layers], or empty
  WindowStore window_;
};

/// Page ids [0, num_pages): handed out lowest first, checked on return.
class PagePool {
 public:
  explicit PagePool(int64_t num_pages);
  [[nodiscard]] int64_t num_free() const { return static_cast<int64_t>(free_.size()); }
  /// Appends `count` page ids to `pages`; false, and nothing taken, when fewer are free.
  bool take(int64_t count, std::vector<int32_t>& pages);
  /// Throws CheckError, and returns nothing, when a page is not taken or is named twice.
  void give_back(const std::vector<int32_t>& pages);

 private:
  std::vector<int32_t> free_;  // a heap, lowest id on top
  std::vector<bool> taken_;
};

}  // namespace comet::kv
