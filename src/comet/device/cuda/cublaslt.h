// Matrix products by cuBLASLt, which is opened with dlopen when the first caller asks: the program
// starts without it. Callers: formats' CUDA backends (dense, peers) and `comet bench gemm`.
// plan_matmul() once per MatmulDesc outside of a CUDA graph (it asks the heuristics); run_matmul()
// then only launches. One thread per CublasLt.
#pragma once

#include <cuda_runtime_api.h>

#include <compare>
#include <cstdint>

#include "comet/base/result.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/tensor/dtype.h"

namespace comet {

/// How E4M3 operands are scaled.
enum class MatmulScale : uint8_t {
  kNone,
  kTensor,  // x_scale[0] · w_scale[0]
  kOuter,   // x_scale[row] · w_scale[column]; sm_90 and later
};

/// How the operands lie; all row-major. Other forms than kForward: BF16, F16 and F32 alone.
enum class MatmulForm : uint8_t {
  kForward,  // x [rows, k] · w [n, k]ᵀ
  kData,     // x [rows, k] · w [k, n]
  kWeight,   // x [k, rows]ᵀ · w [k, n]
};

/// What is done to the sums before they are stored; BF16 and F16 products, bias of out's type.
enum class MatmulEnd : uint8_t {
  kNone,
  kBias,          // + bias[column]
  kBiasGeluTanh,  // then GELU by its tanh approximation: up to 5e-4 off
};

/// out [rows, n] = the product of x and w; sums in FP32 (I8: I32).
struct MatmulDesc {
  DType in = DType::kBF16;   // BF16, F16, F32 (no TF32), F8_E4M3 (k % 16 == 0), I8 (k % 4 == 0)
  DType out = DType::kBF16;  // BF16, F16, F32; I32 of I8
  int64_t rows = 0;
  int64_t n = 0;
  int64_t k = 0;
  int64_t x_stride = 0;    // elements from row to row; 0: contiguous
  int64_t w_stride = 0;    // likewise
  int64_t out_stride = 0;  // 0: n
  MatmulScale scale = MatmulScale::kNone;
  bool sum_quickly = false;  // E4M3: sums of about 14 bits of mantissa (CUBLASLT's "fast" mode)
  MatmulForm form = MatmulForm::kForward;
  MatmulEnd end = MatmulEnd::kNone;
  bool add_to_out = false;   // out += (not of I8)
  uint8_t align_bytes = 16;  // of every operand: a power of two

  auto operator<=>(const MatmulDesc&) const = default;
};

/// Device pointers, aligned as the description says.
struct MatmulArgs {
  const void* x = nullptr;
  const void* w = nullptr;
  void* out = nullptr;
  const float* x_scale = nullptr;  // as MatmulDesc::scale says; 16-byte aligned, too
  const float* w_scale = nullptr;
  const void* bias = nullptr;  // as MatmulDesc::end says
};

/// The library, a handle and 64 MiB of workspace for this device, opened at the first call and kept
/// in `cuda`; an error that says where it was looked for.
Result<CublasLt*> cublaslt_of(CudaResources& cuda);

/// Whether the library can be opened here: for tables of kernels, which have no CudaResources.
bool cublaslt_is_found();

/// Chooses an algorithm for `desc` and keeps it; nothing to do when it is known. An error when
/// cuBLASLt has none.
Status plan_matmul(CublasLt& lt, const MatmulDesc& desc);

/// Launches on `stream`; plans first where plan_matmul() has not been called (broken promise when
/// that fails).
void run_matmul(CublasLt& lt, const MatmulDesc& desc, const MatmulArgs& args, cudaStream_t stream);

}  // namespace comet
