// Asynchronous matrix products of one warpgroup (128 threads, sm_90a): ordering, and descriptors of
// operands in shared memory. The products themselves: wgmma_{bf16,e4m3,s8}.cuh. Callers: sm_90a
// kernels; elsewhere the functions do nothing or trap.
// PTX ISA: "Asynchronous warpgroup level matrix instructions".
//
// One product: wgmma_fence; WgmmaX<N>::ss or rs (several may follow each other on the same d);
// wgmma_commit; wgmma_wait<0>; only then may d be read. Registers of d (and of a in rs) may not be
// touched in between. What threads wrote to shared memory needs fence_proxy_async and a barrier
// before the first product (bulk copies need only their mbarrier).
#pragma once

#include <cstdint>

#include "comet/device/cuda/prims/shared_address.cuh"

namespace comet::prims {

/// Orders earlier register accesses before wgmma. PTX ISA: wgmma.fence.
__device__ __forceinline__ void wgmma_fence() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
#endif
}

/// PTX ISA: wgmma.commit_group.
__device__ __forceinline__ void wgmma_commit() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
#endif
}

/// Waits until at most kNumPending groups are under way. PTX ISA: wgmma.wait_group.
template <int kNumPending>
__device__ __forceinline__ void wgmma_wait() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kNumPending) : "memory");
#endif
}

/// Keeps the compiler from moving accesses of accumulators across a wait. No instruction.
template <int kCount>
__device__ __forceinline__ void wgmma_pin(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int kCount>
__device__ __forceinline__ void wgmma_pin(int32_t (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

/// Likewise for the fragments of a in rs: they are made behind the wait before them, and before the
/// product. No instruction.
template <int kCount>
__device__ __forceinline__ void wgmma_pin(uint32_t (&a)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(a[i])::"memory");
}

/// The layouts of an operand in shared memory, by their code in bits 62 and 63 of a descriptor.
enum class WgmmaSwizzle : uint32_t { kNone = 0, k128 = 1, k64 = 2, k32 = 3 };

/// PTX ISA: "Shared memory matrix layout", matrix descriptor:
///   bits 0-13 address / 16;  16-29 leading byte offset / 16;  32-45 stride byte offset / 16;
///   49-51 base offset (0: tiles are aligned to their repeating pattern);  62-63 swizzle.
__device__ __forceinline__ uint64_t wgmma_descriptor(const void* tile, uint32_t leading_bytes,
                                                     uint32_t stride_bytes, WgmmaSwizzle swizzle) {
  const auto field = [](uint32_t bytes) { return static_cast<uint64_t>((bytes & 0x3FFFF) >> 4); };
  return field(shared_address(tile)) | field(leading_bytes) << 16 | field(stride_bytes) << 32 |
         static_cast<uint64_t>(swizzle) << 62;
}

/// Operand with K contiguous in rows of 128 bytes (64 BF16, 128 bytes of s8/e4m3), 128-byte swizzle
/// as TMA writes it: the 16-byte chunk c of row r lies at chunk c ^ (r % 8) of that row. `tile` is
/// 1,024-byte aligned; the next 8 rows of M or N lie 1,024 bytes on. A step of 32 bytes along K
/// within the row is wgmma_advance(descriptor, 32).
__device__ __forceinline__ uint64_t wgmma_descriptor_k128(const void* tile) {
  return wgmma_descriptor(tile, 16, 1024, WgmmaSwizzle::k128);
}

/// The low half of wgmma_descriptor_k128, to which bytes / 16 may be added as to a number of 32
/// bits, and the whole of it.
__device__ __forceinline__ uint32_t wgmma_low_k128(const void* tile) {
  return shared_address(tile) >> 4 | 1U << 16;
}
__device__ __forceinline__ uint64_t wgmma_descriptor_of_low_k128(uint32_t low) {
  uint64_t descriptor;
  asm("mov.b64 %0, {%1, %2};\n" : "=l"(descriptor) : "r"(low), "r"(0x40000040U));
  return descriptor;
}

/// The descriptor of what lies `bytes` (a multiple of 16) further.
__device__ __forceinline__ uint64_t wgmma_advance(uint64_t descriptor, uint32_t bytes) {
  return descriptor + (bytes >> 4);
}

/// Where byte `column_bytes` (0…127) of row `row_idx` lies in a tile with 128-byte swizzle.
__device__ __forceinline__ uint32_t swizzle_128(uint32_t row_idx, uint32_t column_bytes) {
  return row_idx * 128 + (column_bytes ^ ((row_idx & 7) << 4));
}

}  // namespace comet::prims
