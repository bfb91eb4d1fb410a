// How a page is divided, the same for all formats: [K | V][kv_head][part], a part holding the
// kPageTokens rows of one KV head in the format's own layout (kv16/, kv4/, kv32/), padded to 64
// bytes. Rows of a head lie together, because attention reads one head at a time.
#pragma once

#include <cstdint>

#include "comet/kv/kv_format.h"

namespace comet::kv {

struct PageLayout {
  int64_t part_bytes = 0;
  int64_t num_kv_heads = 0;

  /// `rows_bytes`: what kPageTokens rows take before padding.
  PageLayout(const KvShape& shape, int64_t rows_bytes)
      : part_bytes((rows_bytes + 63) / 64 * 64), num_kv_heads(shape.num_kv_heads) {}

  [[nodiscard]] int64_t page_bytes() const { return 2 * num_kv_heads * part_bytes; }
  [[nodiscard]] int64_t key_offset(int64_t kv_head_idx) const { return kv_head_idx * part_bytes; }
  [[nodiscard]] int64_t value_offset(int64_t kv_head_idx) const {
    return (num_kv_heads + kv_head_idx) * part_bytes;
  }
};

}  // namespace comet::kv
