// Launch functions of the 8-bit products on CUDA: codes [rows, k] · codes [n, k]ᵀ with a scale per
// token and per output channel. Callers: the CUDA backends of w8a8-int and w8a8-fp8, and benches.
// Pointers are device pointers. Rows of both code matrices start 16-byte aligned and are zero from
// k to the next multiple of 16. Launches throw CudaError; zero rows launch nothing.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace comet::formats::w8a8 {

/// out = w_scale · (x_scale · Σ w·x) + bias, in this order, then one rounding where out is BF16.
struct GemmArgs {
  const void* x = nullptr;         // s8 or E4M3 [rows, k]
  const void* w = nullptr;         // the same [n, k]
  const float* x_scale = nullptr;  // of row r: x_scale[r · x_scale_stride]
  const float* w_scale = nullptr;  // [n]
  const float* bias = nullptr;     // [n], or null
  void* out = nullptr;             // F32 or BF16 [rows, n]
  int64_t x_stride = 0;            // bytes, a multiple of 16
  int64_t w_stride = 0;            // likewise
  int64_t out_stride = 0;          // elements
  int32_t x_scale_stride = 1;
  int32_t rows = 0;
  int32_t n = 0;
  int32_t k = 0;
  bool is_e4m3 = false;
  bool is_bf16_out = false;
};

/// mma.sync, for any card from sm_80: the simple one, that others are compared with.
void launch_gemm_mma(const GemmArgs& args, CUstream_st* stream);

}  // namespace comet::formats::w8a8
