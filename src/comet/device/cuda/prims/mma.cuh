// Matrix products of one warp on tensor cores: d += a · b with a [16, k] row-major and b [k, 8]
// column-major, both spread over the lanes' registers. Callers: kernels of formats/ and kv/.
// PTX ISA: "Warp-level matrix instructions", mma and the fragment pictures of each shape.
//
// With group = lane / 4 and quad = lane % 4 (k counted in elements of 32/bits per register):
//   a[0]: row group,     k of quad       a[2]: row group,     k of quad + half the k of the shape
//   a[1]: row group + 8, k of quad       a[3]: row group + 8, k of quad + half the k of the shape
//   b[0]: column group,  k of quad       b[1]: column group,  k of quad + half the k of the shape
//   d[0], d[1]: row group, columns 2·quad, 2·quad + 1;  d[2], d[3]: the same of row group + 8
// where "k of quad" are the elements of the quad-th 32-bit word of that half row.
#pragma once

#include <cstdint>

namespace comet::prims {

/// d += a · b, BF16 m16n8k16, FP32 sums. PTX ISA: mma.m16n8k16 with .bf16 (sm_80).
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// d += a · b, FP16 m16n8k16, FP32 sums. PTX ISA: mma.m16n8k16 with .f16 (sm_80).
__device__ __forceinline__ void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// d += a · b, signed bytes m16n8k32, exact INT32 sums (wrapping). PTX ISA: mma.m16n8k32 with .s8.
__device__ __forceinline__ void mma_m16n8k32_s8(int32_t (&d)[4], const uint32_t (&a)[4],
                                                const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// d += a · b, signed nibbles m16n8k64 (element 0 in the low bits), exact INT32 sums. PTX ISA:
/// mma.m16n8k64 with .s4 (sm_80; compiles for sm_90, which has no INT4 tensor cores: slow there).
__device__ __forceinline__ void mma_m16n8k64_s4(int32_t (&d)[4], const uint32_t (&a)[4],
                                                const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k64.row.col.s32.s4.s4.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// d += a · b, E4M3 m16n8k32, FP32 sums. PTX ISA: mma.m16n8k32 with .e4m3 (sm_89; traps below).
__device__ __forceinline__ void mma_m16n8k32_e4m3(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 890
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

}  // namespace comet::prims
