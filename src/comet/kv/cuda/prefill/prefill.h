// Launch functions of prefill attention: causal, ragged, chunked (a chunk's keys are all in the
// cache already). Callers: kv_backend_cuda.cpp, tests, the bench. All pointers are of device
// memory.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "comet/kv/cuda/page_map.h"

namespace comet::kv {

struct PrefillParams {
  const uint16_t* q = nullptr;  // BF16 [tokens, heads, head_dim] contiguous (append's q_out)
  const uint8_t* pages = nullptr;
  // Of the sequences that attend, num_seqs of them: bounds [num_seqs + 1] count rows of q and out;
  // query i of a sequence stands at position kv_len − num_queries + i.
  const int32_t* cu_seqlens = nullptr;
  const int32_t* kv_lens = nullptr;
  const int32_t* block_tables = nullptr;
  int64_t block_table_stride = 0;
  uint16_t* out = nullptr;  // BF16 [tokens, heads · head_dim], rows out_stride elements apart
  int64_t out_stride = 0;
  int num_seqs = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int max_query_len = 0;
  bool is_half = false;  // launch_prefill_sm90: the pages hold FP16 (launch_expand)
};

/// Every format, mma.sync (sm_80 and later). head_dim 64 or 128; else cudaErrorInvalidValue.
cudaError_t launch_prefill(const PrefillParams& params, PageFormat format, int head_dim,
                           cudaStream_t stream);

/// kv16 by wgmma: sm_90a only (`sm` of the device is 90).
cudaError_t launch_prefill_sm90(const PrefillParams& params, int head_dim, cudaStream_t stream);

/// kv8 or kv4 as pages of kv16 that hold FP16: what launch_prefill_sm90 reads with is_half. Rows
/// behind kv_len become zeros.
struct ExpandParams {
  const uint8_t* pages = nullptr;
  const int32_t* kv_lens = nullptr;       // [num_seqs]
  const int32_t* block_tables = nullptr;  // [num_seqs] rows, block_table_stride apart
  int64_t block_table_stride = 0;
  uint8_t* wide_pages = nullptr;   // num_seqs · max_pages pages of kv16
  int32_t* wide_tables = nullptr;  // [num_seqs, max_pages], written too
  int num_seqs = 0;
  int num_kv_heads = 0;
  int max_pages = 0;  // of a sequence
};
cudaError_t launch_expand(const ExpandParams& params, PageFormat format, int head_dim,
                          cudaStream_t stream);

}  // namespace comet::kv
