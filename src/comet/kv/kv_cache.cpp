#include "comet/kv/kv_cache.h"

#include <algorithm>
#include <bit>
#include <new>

#include "comet/kv/cuda/kv_backend.h"
#include "comet/ops/hadamard/hadamard.h"
#include "comet/ops/op_table.h"
#include "comet/ops/rms_norm/rms_norm.h"
#include "comet/ops/rope/rope.h"

namespace comet::kv {
namespace {

constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxKvHeads = 1024;

/// Every element by `factor`, or divided by it: a quotient is what the scale's maker rounded.
void scale_rows(View<float, 3> x, float factor, bool divide) {
  for (int64_t i = 0; i < x.size(0); ++i) {
    for (int64_t h = 0; h < x.size(1); ++h) {
      float* row = x.row(i) + h * x.strides[1];
      for (int64_t d = 0; d < x.size(2); ++d) row[d] = divide ? row[d] / factor : row[d] * factor;
    }
  }
}

View<const float, 3> divided_copy(Context& ctx, View<const float, 3> x, float divisor) {
  const Tensor copy = ctx.arena.alloc(DType::kF32, {x.size(0), x.size(1), x.size(2)});
  const View<float, 3> rows = copy.view<float, 3>();
  for (int64_t i = 0; i < x.size(0); ++i) {
    for (int64_t h = 0; h < x.size(1); ++h) {
      std::copy_n(x.row(i) + h * x.strides[1], x.size(2), rows.row(i) + h * rows.strides[1]);
    }
  }
  scale_rows(rows, divisor, true);
  return copy.view<const float, 3>();
}

View<float, 3> heads_of(const Rows& x, int64_t head_dim) {
  const View<float, 2> rows = x.f32();
  return {rows.data, {x.num_rows, x.num_columns / head_dim, head_dim}, {x.stride, head_dim, 1}};
}

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

void norm_and_rotate_heads(Context& ctx, const HeadsInput& heads, int64_t head_dim,
                           std::span<const int32_t> positions) {
  const View<float, 3> q = heads_of(heads.q, head_dim);
  const View<float, 3> k = heads_of(heads.k, head_dim);
  if (heads.q_norm.size(0) > 0) rms_norm(ctx, q, heads.q_norm, heads.norm_eps);
  if (heads.k_norm.size(0) > 0) rms_norm(ctx, k, heads.k_norm, heads.norm_eps);
  rope(ctx, q, positions, heads.inv_freq);
  rope(ctx, k, positions, heads.inv_freq);
}

Status check_kv_options(const KvOptions& options, int64_t head_dim, int64_t max_tokens) {
  const int64_t first = options.window_first;
  const int64_t recent = options.window_recent;
  if (first < 0 || recent < 0 || first > max_tokens || recent > max_tokens - first) {
    return make_error(ErrorCode::kInvalidArgument,
                      "kv_cache.window is [{}, {}]; expected two counts of tokens, at most {} "
                      "together",
                      first, recent, max_tokens);
  }
  if (options.rotate && !std::has_single_bit(static_cast<uint64_t>(head_dim))) {
    return make_error(ErrorCode::kUnsupported,
                      "kv_cache.rotate is true, but head_dim is {}; only a power of two can be "
                      "rotated: quantize with --kv-rotate off",
                      head_dim);
  }
  return {};
}

Result<KvCache> KvCache::create(const KvFormat& format, const KvShape& shape, int64_t num_layers,
                                int64_t num_pages, const KvOptions& options, int64_t num_slots,
                                Context* ctx) {
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
  const Status valid = check_kv_options(options, shape.head_dim, INT32_MAX);
  if (!valid) return valid.error();
  KvCache cache;
  cache.format_ = &format;
  cache.shape_ = shape;
  cache.options_ = options;
  cache.num_layers_ = num_layers;
  cache.num_pages_ = num_pages;
  int64_t total_bytes = 0;
  if (__builtin_mul_overflow(format.page_bytes(shape), num_pages, &cache.layer_bytes_) ||
      __builtin_mul_overflow(cache.layer_bytes_, num_layers, &total_bytes)) {
    return make_error(ErrorCode::kInvalidArgument, "KV cache {}: {} layers of {} pages overflow",
                      format.name, num_layers, num_pages);
  }
  if (ctx != nullptr && ctx->cuda != nullptr) {
    const Status supported = check_cuda_cache(format, shape, options);
    if (!supported) return supported.error();
    cache.saturated_rows_ = make_gpu_counter();
  }
  try {
    Allocator& memory = ctx == nullptr ? host_allocator() : ctx->memory;
    cache.storage_ = std::make_shared<Storage>(memory, static_cast<size_t>(total_bytes));
  } catch (const std::bad_alloc&) {
    return make_error(ErrorCode::kResourceExhausted,
                      "KV cache {}: no memory for {} MiB; use a shorter context or fewer sequences",
                      format.name, total_bytes >> 20);
  }
  if (format.narrow && options.has_window()) {
    auto window = WindowStore::create(shape, options, num_layers, num_slots);
    if (!window) return window.error();
    cache.window_ = *std::move(window);
  }
  return cache;
}

void KvCache::set_scales(std::vector<KvScales> scales) {
  COMET_CHECK(static_cast<int64_t>(scales.size()) == num_layers_, "{} scales of {} layers",
              scales.size(), num_layers_);
  if (format_->has_scales) scales_ = std::move(scales);
}

int64_t KvCache::bytes_per_token() const {
  return format_->page_bytes(shape_) * num_layers_ / kPageTokens;
}

int64_t KvCache::num_saturated_rows() const {
  if (saturated_rows_ == nullptr) return num_saturated_rows_;
  // Kernels may be writing it: one load, of whatever is there.
  return static_cast<int64_t>(*reinterpret_cast<const volatile uint64_t*>(saturated_rows_->data()));
}

std::byte* KvCache::layer_pages(int64_t layer_idx) const {
  COMET_CHECK(layer_idx >= 0 && layer_idx < num_layers_, "layer {} of {}", layer_idx, num_layers_);
  return storage_->data() + layer_idx * layer_bytes_;
}

Tensor KvCache::attend(Context& ctx, int64_t layer_idx, const HeadsInput& heads,
                       const Batch& batch) {
  if (ctx.cuda != nullptr) {
    const Tensor out =
        ctx.arena.alloc(ctx.ops.product_dtype, {heads.q.num_rows, heads.q.num_columns});
    attend_cuda(ctx, {format_, shape_, layer_pages(layer_idx), heads, options_.rotate,
                      scales_.empty() ? KvScales() : scales_[layer_idx], batch.device, out,
                      reinterpret_cast<uint64_t*>(saturated_rows_->data())});
    return out;
  }
  const int64_t head_dim = shape_.head_dim;
  norm_and_rotate_heads(ctx, heads, head_dim, batch.positions);
  const View<const float, 2> v = heads.v.f32();
  return attend(ctx, layer_idx, heads_of(heads.q, head_dim), heads_of(heads.k, head_dim),
                {v.data, {v.size(0), v.size(1) / head_dim, head_dim}, {v.strides[0], head_dim, 1}},
                batch);
}

Tensor KvCache::attend(Context& ctx, int64_t layer_idx, View<float, 3> q, View<float, 3> k,
                       View<const float, 3> v, const Batch& batch) {
  COMET_CHECK(q.size(2) == shape_.head_dim && k.size(2) == shape_.head_dim &&
                  k.size(1) == shape_.num_kv_heads,
              "q of {} dimensions, k [{}, {}, {}], cache of {} heads of {}", q.size(2), k.size(0),
              k.size(1), k.size(2), shape_.num_kv_heads, shape_.head_dim);
  check_batch(batch, num_pages_);
  if (!window_.empty()) window_.check_slots(batch);
  std::byte* pages = layer_pages(layer_idx);
  if (options_.rotate) {
    hadamard(ctx, q);
    hadamard(ctx, k);
  }
  const KvScales scales = scales_.empty() ? KvScales() : scales_[layer_idx];
  if (!scales_.empty()) {  // q·k = (q·s)·(k/s)
    scale_rows(k, scales.key, true);
    scale_rows(q, scales.key, false);
    v = divided_copy(ctx, v, scales.value);
  }
  num_saturated_rows_ += format_->append(ctx, shape_, pages, k, v, batch);
  Tensor out = ctx.arena.alloc(DType::kF32, {q.size(0), q.size(1) * q.size(2)});
  KvLayer layer{pages, {}};
  if (!window_.empty()) layer.window = window_.read(layer_idx, k, v);
  format_->attend(ctx, shape_, layer, out.view<float, 2>(), q, batch);
  if (!scales_.empty()) {
    float* values = out.data<float>();
    for (int64_t i = 0; i < out.num_elements(); ++i) values[i] *= scales.value;
  }
  if (!window_.empty()) window_.keep(ctx, layer_idx, k, v, batch);
  return out;
}

void KvCache::gather(int64_t layer_idx, View<float, 3> k, View<float, 3> v, const Batch& batch,
                     int64_t seq_idx) const {
  check_batch(batch, num_pages_);
  format_->gather(shape_, layer_pages(layer_idx), k, v, batch, seq_idx);
}

}  // namespace comet::kv
