// Float types narrower than FP32, as bits: what <cuda_bf16.h> and <cuda_fp16.h> do, without their
// compile time. Callers: kernels of any room.
#pragma once

#include <cstdint>

namespace comet::prims {

/// Two FP32 as BF16, rounded to nearest even, `low` in the low half; NaN becomes 0x7FFF. PTX ISA:
/// cvt.rn.bf16x2.f32 (sm_80).
__device__ __forceinline__ uint32_t bf16x2_of(float low, float high) {
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

/// Two FP32 as FP16, rounded to nearest even, beyond 65,504 infinity. PTX ISA: cvt.rn.f16x2.f32
/// (sm_80).
__device__ __forceinline__ uint32_t f16x2_of(float low, float high) {
  uint32_t bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;\n" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

__device__ __forceinline__ float f32_of_bf16(uint16_t bits) {
  return __uint_as_float(static_cast<uint32_t>(bits) << 16);
}

/// PTX ISA: cvt.f32.f16.
__device__ __forceinline__ float f32_of_f16(uint16_t bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;\n" : "=f"(x) : "h"(bits));
  return x;
}

}  // namespace comet::prims
