// What stands behind the sums of an 8-bit product: scales, bias, rounding (docs/formats.md §1).
// Callers: the kernels of this folder.
#pragma once

#include <cuda_bf16.h>

#include "comet/formats/w8a8/cuda/gemm.h"

namespace comet::formats::w8a8 {

/// w_scale · (x_scale · sum) + bias, each a single FP32 operation. A NaN scale of a row makes NaN.
__device__ __forceinline__ float scaled(float sum, float x_scale, float w_scale, float bias,
                                        bool has_bias) {
  const float y = __fmul_rn(w_scale, __fmul_rn(x_scale, sum));
  return has_bias ? __fadd_rn(y, bias) : y;
}

__device__ __forceinline__ void store_one(const GemmArgs& args, int64_t element, float y) {
  if (args.is_bf16_out) {
    static_cast<__nv_bfloat16*>(args.out)[element] = __float2bfloat16_rn(y);
  } else {
    static_cast<float*>(args.out)[element] = y;
  }
}

/// Two neighbours; `element` is even and out 8-byte aligned.
__device__ __forceinline__ void store_pair(const GemmArgs& args, int64_t element, float y0,
                                           float y1) {
  if (args.is_bf16_out) {
    *reinterpret_cast<__nv_bfloat162*>(static_cast<__nv_bfloat16*>(args.out) + element) =
        __floats2bfloat162_rn(y0, y1);
  } else {
    *reinterpret_cast<float2*>(static_cast<float*>(args.out) + element) = make_float2(y0, y1);
  }
}

/// Four neighbours; `element` is a multiple of 4 and out 16-byte aligned.
__device__ __forceinline__ void store_quad(const GemmArgs& args, int64_t element,
                                           const float (&y)[4]) {
  if (args.is_bf16_out) {
    const __nv_bfloat162 low = __floats2bfloat162_rn(y[0], y[1]);
    const __nv_bfloat162 high = __floats2bfloat162_rn(y[2], y[3]);
    const uint2 packed = {reinterpret_cast<const uint32_t&>(low),
                          reinterpret_cast<const uint32_t&>(high)};
    *reinterpret_cast<uint2*>(static_cast<__nv_bfloat16*>(args.out) + element) = packed;
  } else {
    *reinterpret_cast<float4*>(static_cast<float*>(args.out) + element) =
        make_float4(y[0], y[1], y[2], y[3]);
  }
}

}  // namespace comet::formats::w8a8
