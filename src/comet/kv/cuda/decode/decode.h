// Launch function of decode attention: sequences with one query token each, over the paged cache.
// Callers: kv_backend_cuda.cpp, tests, the bench. All pointers are of device memory. The grid
// depends on the numbers below alone, so a step can be captured in a graph.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "comet/kv/cuda/append/append.h"
#include "comet/kv/cuda/page_map.h"

namespace comet::kv {

struct DecodeParams {
  const uint16_t* q = nullptr;  // BF16 [num_seqs, heads, head_dim] contiguous (append's q_out)
  const uint8_t* pages = nullptr;
  const int32_t* kv_lens = nullptr;       // [num_seqs]; 0: the output is 0
  const int32_t* block_tables = nullptr;  // [num_seqs] rows, block_table_stride apart
  int64_t block_table_stride = 0;
  uint16_t* out = nullptr;  // BF16 [num_seqs, heads · head_dim], rows out_stride elements apart
  int64_t out_stride = 0;
  float* workspace = nullptr;  // decode_plan's workspace_floats
  int num_seqs = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  // sm_90: the launch may begin while the kernel before it ends, and reads kv_lens and block_tables
  // by then, which that kernel does not write.
  bool overlaps = false;
  // The kernels that the launch may overlap write no page but each sequence's last one, so that the
  // others are read before those end. True of a step with one new token a sequence.
  bool old_pages_settled = false;
  // How the bytes arrive: bulk copies (sm_90) or cp.async by all lanes. Tests try both.
  bool bulk_copies = false;
};

/// How the KV length is split over CTAs.
struct DecodePlan {
  int num_splits = 1;
  int pages_per_split = 1;
  int64_t workspace_floats = 0;
  bool many_warps = false;  // kv4 alone: CTAs of 8
  bool can_append = false;  // launch_append_decode takes it
};

/// max_kv_len: an upper bound of kv_lens.
DecodePlan decode_plan(const DecodeParams& params, PageFormat format, int head_dim,
                       int64_t max_kv_len, int num_sms);

/// head_dim 64 or 128; other values return cudaErrorInvalidValue; a failed launch throws CudaError.
cudaError_t launch_decode(const DecodeParams& params, const DecodePlan& plan, PageFormat format,
                          int head_dim, cudaStream_t stream);

/// launch_append and launch_decode in one kernel, for plans that say `can_append`: kv4 pages, token
/// i of `append` is the last of sequence i. `q` and `q_out` are not touched; codes and outputs are
/// those of the two. With `overlaps`, lengths, tables, positions, slots and pages are read before
/// the kernels ahead end: they write q, k, v of the step; none since the last copy writes those.
cudaError_t launch_append_decode(const AppendParams& append, const DecodeParams& params,
                                 const DecodePlan& plan, int head_dim, cudaStream_t stream);

}  // namespace comet::kv
