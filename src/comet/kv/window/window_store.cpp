#include "comet/kv/window/window_store.h"

#include <new>

#include "comet/kv/cache_driver.h"
#include "comet/kv/window/window_row.h"
#include "comet/ops/parallel_rows.h"

namespace comet::kv {

int64_t window_bytes(const KvFormat& format, const KvShape& shape, const KvOptions& options) {
  if (!format.narrow) return 0;
  const auto row_bytes = static_cast<int64_t>(sizeof(uint16_t)) * shape.head_dim;
  return 2 * shape.num_kv_heads * (options.window_first + options.window_recent) * row_bytes;
}

Result<WindowStore> WindowStore::create(const KvShape& shape, const KvOptions& options,
                                        int64_t num_layers, int64_t num_slots) {
  WindowStore store;
  store.num_first_ = options.window_first;
  store.num_recent_ = options.window_recent;
  store.num_slots_ = num_slots;
  const int64_t slot_values =
      2 * shape.num_kv_heads * (options.window_first + options.window_recent) * shape.head_dim;
  int64_t total_bytes = 0;
  if (num_slots < 1 || __builtin_mul_overflow(slot_values, num_slots, &store.layer_values_) ||
      __builtin_mul_overflow(store.layer_values_, num_layers * 2, &total_bytes)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "kv_cache.window [{}, {}]: windows of {} sequences", options.window_first,
                      options.window_recent, num_slots);
  }
  try {
    store.storage_ = std::make_shared<Storage>(host_allocator(), static_cast<size_t>(total_bytes));
  } catch (const std::bad_alloc&) {
    return make_error(
        ErrorCode::kResourceExhausted,
        "kv_cache.window [{}, {}]: no memory for {} MiB; use a shorter window or fewer sequences",
        options.window_first, options.window_recent, total_bytes >> 20);
  }
  return store;
}

uint16_t* WindowStore::layer_rows(int64_t layer_idx) const {
  return reinterpret_cast<uint16_t*>(storage_->data()) + layer_idx * layer_values_;
}

void WindowStore::check_slots(const Batch& batch) const {
  COMET_CHECK(static_cast<int64_t>(batch.seq_slots.size()) == batch.num_seqs(),
              "a cache with a window: {} slots for {} sequences", batch.seq_slots.size(),
              batch.num_seqs());
  for (size_t i = 0; i < batch.seq_slots.size(); ++i) {
    const int64_t slot = batch.seq_slots[i];
    COMET_CHECK(slot >= 0 && slot < num_slots_, "sequence {}: slot {} of {}", i, slot, num_slots_);
    for (size_t j = 0; j < i; ++j) {
      COMET_CHECK(batch.seq_slots[j] != slot, "sequences {} and {} share slot {}", j, i, slot);
    }
  }
}

KvWindow WindowStore::read(int64_t layer_idx, View<const float, 3> k,
                           View<const float, 3> v) const {
  return {num_first_, num_recent_, layer_rows(layer_idx), k, v};
}

void WindowStore::keep(Context& ctx, int64_t layer_idx, View<const float, 3> k,
                       View<const float, 3> v, const Batch& batch) {
  const int64_t num_heads = k.size(1);
  const int64_t head_dim = k.size(2);
  const int64_t part_values = (num_first_ + num_recent_) * head_dim;
  uint16_t* rows = layer_rows(layer_idx);
  const KvKernels& bf16 = kv_kernels(ctx.caps.cpu_isa).kv16;
  // The last num_recent positions of a sequence differ modulo num_recent: no two tokens share a
  // row.
  parallel_rows(ctx, batch.num_tokens(), num_heads * head_dim, [&](int64_t token_idx) {
    const int64_t seq_idx = sequence_of(batch, token_idx);
    const int64_t position = position_of(batch, seq_idx, token_idx);
    if (position >= num_first_ && position < batch.kv_lens[seq_idx] - num_recent_) return;
    const int64_t row_idx = window_row(num_first_, num_recent_, position);
    for (int64_t h = 0; h < num_heads; ++h) {
      uint16_t* keys = rows + (batch.seq_slots[seq_idx] * num_heads + h) * 2 * part_values;
      const auto part = [](uint16_t* p) { return reinterpret_cast<uint8_t*>(p); };
      bf16.encode_row(part(keys), row_idx, k.row(token_idx) + h * k.strides[1], head_dim);
      bf16.encode_row(part(keys + part_values), row_idx, v.row(token_idx) + h * v.strides[1],
                      head_dim);
    }
  });
}

}  // namespace comet::kv
