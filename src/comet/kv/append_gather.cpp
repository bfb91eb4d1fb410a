#include <algorithm>
#include <atomic>

#include "comet/kv/cache_driver.h"
#include "comet/ops/parallel_rows.h"

namespace comet::kv {

static_assert(kTileTokens == kPageTokens && kMaxRowValues == kMaxHeadDim);

namespace {

uint8_t* page_at(const std::byte* pages, const PageLayout& layout, int64_t page_idx) {
  auto* base = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(pages));
  return base + page_idx * layout.page_bytes();
}

}  // namespace

int64_t sequence_of(const Batch& batch, int64_t token_idx) {
  const auto it = std::upper_bound(batch.cu_seqlens.begin(), batch.cu_seqlens.end(), token_idx);
  return it - batch.cu_seqlens.begin() - 1;
}

const KvKernelSet& kv_kernels(CpuIsa isa) {
  if (isa == CpuIsa::kPortable) return kKvKernelsPortable;
  return isa == CpuIsa::kAvx2 ? kKvKernelsAvx2 : kKvKernelsAvx512;
}

int64_t append_rows(Context& ctx, const KvKernels& kernels, const PageLayout& layout,
                    std::byte* pages, View<const float, 3> k, View<const float, 3> v,
                    const Batch& batch) {
  const int64_t num_heads = k.size(1);
  const int64_t head_dim = k.size(2);
  COMET_CHECK(
      k.size(0) == batch.num_tokens() && k.sizes == v.sizes && num_heads == layout.num_kv_heads,
      "k [{}, {}, {}] for {} tokens and {} KV heads", k.size(0), num_heads, head_dim,
      batch.num_tokens(), layout.num_kv_heads);
  COMET_CHECK(k.strides[2] == 1 && v.strides[2] == 1);
  std::atomic<int64_t> num_saturated{0};
  // A coded element costs about four plain ones.
  parallel_rows(ctx, batch.num_tokens(), 8 * num_heads * head_dim, [&](int64_t token_idx) {
    const int64_t seq_idx = sequence_of(batch, token_idx);
    const int64_t position = position_of(batch, seq_idx, token_idx);
    uint8_t* page = page_at(pages, layout, batch.block_tables(seq_idx, position / kPageTokens));
    const int64_t slot_idx = position % kPageTokens;
    int64_t saturated = 0;
    for (int64_t h = 0; h < num_heads; ++h) {
      saturated += kernels.encode_row(page + layout.key_offset(h), slot_idx,
                                      k.row(token_idx) + h * k.strides[1], head_dim);
      saturated += kernels.encode_row(page + layout.value_offset(h), slot_idx,
                                      v.row(token_idx) + h * v.strides[1], head_dim);
    }
    if (saturated != 0) num_saturated += saturated;
  });
  return num_saturated;
}

void gather_rows(const KvKernels& kernels, const PageLayout& layout, const std::byte* pages,
                 View<float, 3> k, View<float, 3> v, const Batch& batch, int64_t seq_idx) {
  const int64_t kv_len = batch.kv_lens[seq_idx];
  COMET_CHECK(k.sizes == v.sizes && k.size(0) == kv_len && k.size(1) == layout.num_kv_heads,
              "k [{}, {}, {}] for {} cached tokens and {} KV heads", k.size(0), k.size(1),
              k.size(2), kv_len, layout.num_kv_heads);
  COMET_CHECK(k.strides[2] == 1 && v.strides[2] == 1);
  for (int64_t start = 0; start < kv_len; start += kPageTokens) {
    const int64_t num_rows = std::min(kPageTokens, kv_len - start);
    const uint8_t* page = page_at(pages, layout, batch.block_tables(seq_idx, start / kPageTokens));
    for (int64_t h = 0; h < layout.num_kv_heads; ++h) {
      kernels.decode_rows(k.row(start) + h * k.strides[1], k.strides[0],
                          page + layout.key_offset(h), num_rows, k.size(2));
      kernels.decode_rows(v.row(start) + h * v.strides[1], v.strides[0],
                          page + layout.value_offset(h), num_rows, v.size(2));
    }
  }
}

}  // namespace comet::kv
