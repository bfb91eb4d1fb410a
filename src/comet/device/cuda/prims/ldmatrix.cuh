// Whole 8×8 matrices of 16-bit elements between shared memory and a warp's registers: the fragments
// of mma.cuh in one instruction. Callers: kernels of formats/ and kv/. Every row address is 16-byte
// aligned. Lane l gives the address of row l % 8 of matrix l / 8; register i of lane l then holds
// elements (row l / 4, columns 2·(l % 4) and + 1) of matrix i, or, with trans, of its transpose.
#pragma once

#include <cstdint>

#include "comet/device/cuda/prims/shared_address.cuh"

namespace comet::prims {

/// One matrix (lanes 0…7 give addresses). PTX ISA: ldmatrix .x1 (sm_75).
__device__ __forceinline__ void ldmatrix_x1(uint32_t (&r)[1], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];\n"
               : "=r"(r[0])
               : "r"(shared_address(row))
               : "memory");
}

/// Two matrices (lanes 0…15 give addresses). PTX ISA: ldmatrix .x2 (sm_75).
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

/// Four matrices. PTX ISA: ldmatrix .x4 (sm_75).
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

/// Two matrices, transposed. PTX ISA: ldmatrix .x2.trans (sm_75).
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

/// Four matrices, transposed. PTX ISA: ldmatrix .x4.trans (sm_75).
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

/// An 8×8 matrix in the layout that ldmatrix leaves, transposed between the lanes' registers. PTX
/// ISA: movmatrix .trans (sm_75).
__device__ __forceinline__ uint32_t movmatrix_trans(uint32_t r) {
  uint32_t transposed;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;\n" : "=r"(transposed) : "r"(r));
  return transposed;
}

/// Four matrices to shared memory, the reverse of ldmatrix_x4. PTX ISA: stmatrix .x4 (sm_90; traps
/// below).
__device__ __forceinline__ void stmatrix_x4(void* row, const uint32_t (&r)[4]) {
#if __CUDA_ARCH__ >= 900
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(
                   shared_address(row)),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
#else
  __trap();
#endif
}

/// As stmatrix_x4, each matrix transposed: rows in shared memory are the fragments' columns. PTX
/// ISA: stmatrix .x4.trans (sm_90; traps below).
__device__ __forceinline__ void stmatrix_x4_trans(void* row, const uint32_t (&r)[4]) {
#if __CUDA_ARCH__ >= 900
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(
                   shared_address(row)),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
#else
  __trap();
#endif
}

/// Two matrices to shared memory. PTX ISA: stmatrix .x2 (sm_90; traps below).
__device__ __forceinline__ void stmatrix_x2(void* row, const uint32_t (&r)[2]) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};\n" ::"r"(shared_address(row)),
      "r"(r[0]), "r"(r[1])
      : "memory");
#else
  __trap();
#endif
}

}  // namespace comet::prims
