// Loads and stores of global memory with a say in caching, and single instructions on registers
// that C++ has no name for. Callers: kernels of any room.
#pragma once

#include <cstdint>

namespace comet::prims {

/// 16 bytes that nothing writes while the kernel runs and that are read once. PTX ISA:
/// ld.global.nc.L1::no_allocate.
__device__ __forceinline__ uint4 load_streamed_16(const void* global) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(global));
  return v;
}

/// 16 bytes that are read once, in program order with other accesses and with
/// wait_for_previous_kernel (control.cuh), which read-only loads may cross. PTX ISA:
/// ld.global.L1::no_allocate.
__device__ __forceinline__ uint4 load_ordered_16(const void* global) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(global)
               : "memory");
  return v;
}

/// 2^x within 2 ulp, results below 2^−126 as 0. PTX ISA: ex2.approx.ftz.f32.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

/// 1/x within 1 ulp; of ±0 and ±∞ the other. PTX ISA: rcp.approx.ftz.f32.
__device__ __forceinline__ float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

/// The larger one; NaN where one of them is, which fmaxf leaves out. PTX ISA: max.NaN.f32 (sm_80).
__device__ __forceinline__ float max_or_nan(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;\n" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

/// Any function of three bits, bit by bit: kTable is f(0xF0, 0xCC, 0xAA). PTX ISA: lop3.b32.
template <int kTable>
__device__ __forceinline__ uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, %4;\n" : "=r"(d) : "r"(a), "r"(b), "r"(c), "n"(kTable));
  return d;
}

}  // namespace comet::prims
