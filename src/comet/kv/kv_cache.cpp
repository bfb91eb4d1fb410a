#include "comet/kv/kv_cache.h"

#include <new>

namespace comet::kv {
namespace {

constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxKvHeads = 1024;

/// The batch's promises that memory safety rests on.
void check_batch(const Batch& batch, int64_t num_pages) {
  const int64_t num_seqs = batch.num_seqs();
  COMET_CHECK(static_cast<int64_t>(batch.cu_seqlens.size()) == num_seqs + 1 &&
                  batch.block_tables.size(0) >= num_seqs,
              "{} sequences, {} bounds, {} block tables", num_seqs, batch.cu_seqlens.size(),
              batch.block_tables.size(0));
  COMET_CHECK(batch.cu_seqlens[0] == 0 && batch.cu_seqlens[num_seqs] == batch.num_tokens(),
              "bounds [{}, {}] of {} tokens", batch.cu_seqlens[0], batch.cu_seqlens[num_seqs],
              batch.num_tokens());
  for (int64_t s = 0; s < num_seqs; ++s) {
    const int64_t num_queries = batch.cu_seqlens[s + 1] - batch.cu_seqlens[s];
    const int64_t kv_len = batch.kv_lens[s];
    COMET_CHECK(num_queries >= 0 && kv_len >= num_queries, "sequence {}: {} tokens, {} cached", s,
                num_queries, kv_len);
    const int64_t pages_used = (kv_len + kPageTokens - 1) / kPageTokens;
    COMET_CHECK(pages_used <= batch.block_tables.size(1), "sequence {}: {} pages, table of {}", s,
                pages_used, batch.block_tables.size(1));
    for (int64_t i = 0; i < pages_used; ++i) {
      const int64_t page = batch.block_tables(s, i);
      COMET_CHECK(page >= 0 && page < num_pages, "sequence {}: page {} of {}", s, page, num_pages);
    }
  }
}

}  // namespace

Result<KvCache> KvCache::create(const KvFormat& format, const KvShape& shape, int64_t num_layers,
                                int64_t num_pages) {
  if (shape.num_kv_heads < 1 || shape.num_kv_heads > kMaxKvHeads || shape.head_dim < 2 ||
      shape.head_dim > kMaxHeadDim || shape.head_dim % 2 != 0) {
    return make_error(ErrorCode::kUnsupported,
                      "KV cache {}: {} KV heads of {} dimensions; expected 1 to {} heads of an "
                      "even head_dim up to {}",
                      format.name, shape.num_kv_heads, shape.head_dim, kMaxKvHeads, kMaxHeadDim);
  }
  if (num_layers < 1 || num_layers > kMaxLayers || num_pages < 1 || num_pages > INT32_MAX) {
    return make_error(ErrorCode::kInvalidArgument, "KV cache {}: {} layers of {} pages",
                      format.name, num_layers, num_pages);
  }
  KvCache cache;
  cache.format_ = &format;
  cache.shape_ = shape;
  cache.num_layers_ = num_layers;
  cache.num_pages_ = num_pages;
  int64_t total_bytes = 0;
  if (__builtin_mul_overflow(format.page_bytes(shape), num_pages, &cache.layer_bytes_) ||
      __builtin_mul_overflow(cache.layer_bytes_, num_layers, &total_bytes)) {
    return make_error(ErrorCode::kInvalidArgument, "KV cache {}: {} layers of {} pages overflow",
                      format.name, num_layers, num_pages);
  }
  try {
    cache.storage_ = std::make_shared<Storage>(host_allocator(), static_cast<size_t>(total_bytes));
  } catch (const std::bad_alloc&) {
    return make_error(ErrorCode::kResourceExhausted,
                      "KV cache {}: no memory for {} MiB; use a shorter context or fewer sequences",
                      format.name, total_bytes >> 20);
  }
  return cache;
}

int64_t KvCache::bytes_per_token() const {
  return format_->page_bytes(shape_) * num_layers_ / kPageTokens;
}

void KvCache::append(Context& ctx, int64_t layer_idx, View<const float, 3> k,
                     View<const float, 3> v, const Batch& batch) {
  COMET_CHECK(layer_idx >= 0 && layer_idx < num_layers_, "layer {} of {}", layer_idx, num_layers_);
  COMET_CHECK(k.size(1) == shape_.num_kv_heads && k.size(2) == shape_.head_dim,
              "k [{}, {}, {}], cache of {} heads of {}", k.size(0), k.size(1), k.size(2),
              shape_.num_kv_heads, shape_.head_dim);
  check_batch(batch, num_pages_);
  num_saturated_rows_ +=
      format_->append(ctx, shape_, storage_->data() + layer_idx * layer_bytes_, k, v, batch);
}

Tensor KvCache::attend(Context& ctx, int64_t layer_idx, View<const float, 3> q,
                       const Batch& batch) const {
  COMET_CHECK(layer_idx >= 0 && layer_idx < num_layers_, "layer {} of {}", layer_idx, num_layers_);
  COMET_CHECK(q.size(2) == shape_.head_dim, "q of {} dimensions, cache of {}", q.size(2),
              shape_.head_dim);
  check_batch(batch, num_pages_);
  Tensor out = ctx.arena.alloc(DType::kF32, {q.size(0), q.size(1) * q.size(2)});
  format_->attend(ctx, shape_, storage_->data() + layer_idx * layer_bytes_, out.view<float, 2>(), q,
                  batch);
  return out;
}

}  // namespace comet::kv
