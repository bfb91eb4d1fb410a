#include "comet/kv/stage_batch.h"

#include <algorithm>

#include "comet/kv/cache_driver.h"

namespace comet::kv {
namespace {

/// Kernels' grids grow with the longest sequence: in steps, so that few grids occur.
constexpr int64_t kKvLenStep = 256;
/// Arrays begin on borders of 16 bytes.
constexpr int64_t kWordsAligned = 4;

int64_t aligned(int64_t words) {
  return (words + kWordsAligned - 1) / kWordsAligned * kWordsAligned;
}

/// Pages of a row, in the steps of kKvLenStep: a decoding sequence keeps its width for as long.
int64_t table_width(const Batch& batch) {
  constexpr int64_t kPageStep = kKvLenStep / kPageTokens;
  return (batch.block_tables.size(1) + kPageStep - 1) / kPageStep * kPageStep;
}

int64_t query_len(const Batch& batch, int64_t seq_idx) {
  return batch.cu_seqlens[seq_idx + 1] - batch.cu_seqlens[seq_idx];
}

}  // namespace

StagedLayout staged_layout(const Batch& batch) {
  StagedLayout layout{};
  int64_t end = 0;
  const auto place = [&](int64_t& begin, int64_t words) {
    begin = end;
    end = aligned(end + words);
  };
  place(layout.tokens, batch.num_tokens());
  place(layout.positions, batch.num_tokens());
  place(layout.slots, batch.num_tokens());
  place(layout.cu_seqlens, batch.num_seqs() + 1);
  place(layout.kv_lens, batch.num_seqs());
  place(layout.sample_rows, static_cast<int64_t>(batch.sample_rows.size()));
  place(layout.block_tables, batch.num_seqs() * table_width(batch));
  layout.total = end;
  return layout;
}

void write_staged(const Batch& batch, const StagedLayout& layout, int32_t* words) {
  std::copy(batch.tokens.begin(), batch.tokens.end(), words + layout.tokens);
  std::copy(batch.positions.begin(), batch.positions.end(), words + layout.positions);
  std::copy(batch.cu_seqlens.begin(), batch.cu_seqlens.end(), words + layout.cu_seqlens);
  std::copy(batch.kv_lens.begin(), batch.kv_lens.end(), words + layout.kv_lens);
  std::copy(batch.sample_rows.begin(), batch.sample_rows.end(), words + layout.sample_rows);
  for (int64_t s = 0; s < batch.num_seqs(); ++s) {
    const int32_t* pages = batch.block_tables.row(s);
    int32_t* row = words + layout.block_tables + s * table_width(batch);
    std::transform(pages, pages + batch.block_tables.size(1), row,
                   [](int32_t page) { return std::max(page, 0); });
    std::fill(row + batch.block_tables.size(1), row + table_width(batch), 0);
    for (int64_t token = batch.cu_seqlens[s]; token < batch.cu_seqlens[s + 1]; ++token) {
      const int64_t position = position_of(batch, s, token);
      words[layout.slots + token] = static_cast<int32_t>(
          pages[position / kPageTokens] * kPageTokens + position % kPageTokens);
    }
  }
}

DeviceBatch device_batch(const Batch& batch, const StagedLayout& layout, const int32_t* words) {
  DeviceBatch device;
  device.tokens = words + layout.tokens;
  device.positions = words + layout.positions;
  device.cu_seqlens = words + layout.cu_seqlens;
  device.kv_lens = words + layout.kv_lens;
  device.block_tables = words + layout.block_tables;
  device.sample_rows = words + layout.sample_rows;
  device.slots = words + layout.slots;
  device.block_table_stride = table_width(batch);
  device.num_tokens = batch.num_tokens();
  device.num_seqs = batch.num_seqs();
  device.num_sample_rows = static_cast<int64_t>(batch.sample_rows.size());
  while (device.num_decode_seqs < device.num_seqs &&
         query_len(batch, device.num_decode_seqs) == 1) {
    ++device.num_decode_seqs;
  }
  for (int64_t s = device.num_decode_seqs; s < device.num_seqs; ++s) {
    device.max_query_len = std::max(device.max_query_len, query_len(batch, s));
  }
  for (const int32_t kv_len : batch.kv_lens) {
    device.max_kv_len = std::max<int64_t>(device.max_kv_len, kv_len);
  }
  device.max_kv_len = (device.max_kv_len + kKvLenStep - 1) / kKvLenStep * kKvLenStep;
  return device;
}

Batch stage_batch(Context& ctx, const Batch& batch) {
  if (ctx.cuda != nullptr) return stage_batch_cuda(ctx, batch);
  Batch staged = batch;
  staged.device.tokens = batch.tokens.data();
  staged.device.positions = batch.positions.data();
  staged.device.sample_rows = batch.sample_rows.data();
  staged.device.num_tokens = batch.num_tokens();
  staged.device.num_seqs = batch.num_seqs();
  staged.device.num_sample_rows = static_cast<int64_t>(batch.sample_rows.size());
  return staged;
}

}  // namespace comet::kv
