// Launch functions that take a step's heads to where attention reads them: norms, RoPE, rotation,
// q as BF16, k and v into their pages. Callers: kv_backend_cuda.cpp, tests, the bench. All pointers
// are of device memory.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "comet/kv/cuda/page_map.h"

namespace comet::kv {

struct AppendParams {
  const uint16_t* q = nullptr;  // BF16 [tokens, heads · head_dim], rows q_stride elements apart
  const uint16_t* k = nullptr;  // BF16 [tokens, kv_heads · head_dim]
  const uint16_t* v = nullptr;
  int64_t q_stride = 0;
  int64_t k_stride = 0;
  int64_t v_stride = 0;
  const int32_t* positions = nullptr;  // [tokens]
  const int32_t* slots = nullptr;      // [tokens] page · 32 + row
  const float* inv_freq = nullptr;     // [head_dim / 2]
  const float* q_norm = nullptr;       // [head_dim], or none
  const float* k_norm = nullptr;
  float norm_eps = 0.0F;
  bool rotate = false;                // Hadamard of head_dim points on q and k
  uint16_t* q_out = nullptr;          // BF16 [tokens, heads, head_dim]; may not overlap the inputs
  uint8_t* pages = nullptr;           // page p at p · num_kv_heads · PageMap::kHeadBytes
  uint64_t* num_saturated = nullptr;  // rows whose scale overflowed are added, or none
  int num_tokens = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  bool overlaps = false;  // sm_90: the launch may begin while the kernel before it ends
};

/// head_dim 64 or 128; other values return cudaErrorInvalidValue; a failed launch throws CudaError.
/// Inputs 4-byte aligned. With `overlaps`, positions, slots and inv_freq are read before the
/// kernels ahead in the stream have ended: none since the last copy writes them.
cudaError_t launch_append(const AppendParams& params, PageFormat format, int head_dim,
                          cudaStream_t stream);

/// FP32 rows of k and v [tokens, kv_heads, head_dim] into their pages: the codes of a given row, as
/// tests compare them with the CPU's.
struct EncodeRowsParams {
  const float* k = nullptr;
  const float* v = nullptr;
  const int32_t* slots = nullptr;
  uint8_t* pages = nullptr;
  uint64_t* num_saturated = nullptr;
  int num_tokens = 0;
  int num_kv_heads = 0;
};
cudaError_t launch_encode_rows(const EncodeRowsParams& params, PageFormat format, int head_dim,
                               cudaStream_t stream);

}  // namespace comet::kv
