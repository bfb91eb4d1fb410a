// A product of many rows with a small weight whose end is a pass of its own elsewhere: fc1 of image
// classifiers with the exact GELU. Callers: formats/dense on CUDA, bench. sm_90a.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace comet::ops_cuda {

/// out [rows, n] = GELU(x [rows, k] · w [n, k]ᵀ + bias), all BF16 but for the bias, FP32 sums.
struct RowsGemmArgs {
  const void* x = nullptr;
  const void* w = nullptr;  // contiguous
  const float* bias = nullptr;
  void* out = nullptr;
  int64_t x_stride = 0;  // elements
  int64_t out_stride = 0;
  int64_t rows = 0;
  int32_t n = 0;
  int32_t k = 0;
};

constexpr int kMaxRowsGemmK = 384;

/// Pointers 16-byte aligned, strides and k multiples of 8, k up to kMaxRowsGemmK.
bool rows_gemm_supports(const RowsGemmArgs& args, int sm);
void launch_rows_gemm(const RowsGemmArgs& args, int num_sms, CUstream_st* stream);

}  // namespace comet::ops_cuda
