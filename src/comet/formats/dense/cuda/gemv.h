// Launch functions of dense products on CUDA that cuBLASLt does not have or is slow at: few tokens,
// and what stands around it (casts, bias). Callers: the CUDA backend of dense. Pointers are device
// pointers; launches throw CudaError; zero rows launch nothing.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace comet::formats::dense {

constexpr int kMaxGemvRows = 16;

/// out [rows, n] = x [rows, k] · w [n, k]ᵀ + bias; x and w both BF16 or both F16, w contiguous.
/// k and x_stride are multiples of 8, x and w 16-byte aligned, rows at most kMaxGemvRows.
struct GemvArgs {
  const void* x = nullptr;
  const void* w = nullptr;
  const float* bias = nullptr;  // [n], or null
  void* out = nullptr;          // F32 or BF16
  int64_t x_stride = 0;         // elements
  int64_t out_stride = 0;
  int32_t rows = 0;
  int32_t n = 0;
  int32_t k = 0;
  bool is_f16 = false;
  bool is_bf16_out = false;
  // Load weights while the kernel ahead in the stream ends, if that allows it; sm_90 only.
  bool may_start_early = false;
};

void launch_gemv(const GemvArgs& args, CUstream_st* stream);

/// out = sums + bias, sums F32 [rows, n] contiguous; out F32 or BF16.
struct BiasArgs {
  const float* sums = nullptr;
  const float* bias = nullptr;  // [n], or null
  void* out = nullptr;
  int64_t out_stride = 0;
  int32_t rows = 0;
  int32_t n = 0;
  bool is_bf16_out = false;
};

void launch_add_bias(const BiasArgs& args, CUstream_st* stream);

/// BF16 [count] as F16 (beyond ±65,504: infinity) or as F32, exactly.
void launch_cast_bf16(const void* x, void* out, bool to_f16, int64_t count, CUstream_st* stream);

}  // namespace comet::formats::dense
