// Asynchronous copies of single threads from global to shared memory (sm_80). Callers: pipelined
// kernels. Both addresses are 16-byte aligned (8 and 4 for the narrow ones). What a thread copied
// it sees after cp_async_wait; other threads see it after a barrier behind that.
#pragma once

#include <cstdint>

#include "comet/device/cuda/prims/shared_address.cuh"

namespace comet::prims {

/// 16 bytes past L1. PTX ISA: cp.async.cg.shared.global.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(shared_address(shared)),
               "l"(global)
               : "memory");
}

/// 16 bytes past L1, or 16 zero bytes when !is_valid (then `global` is not read). PTX ISA: cp.async
/// with src-size.
__device__ __forceinline__ void cp_async_16_or_zero(void* shared, const void* global,
                                                    bool is_valid) {
  const uint32_t source_bytes = is_valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)),
               "l"(global), "r"(source_bytes)
               : "memory");
}

/// 8 bytes. PTX ISA: cp.async.ca.shared.global.
__device__ __forceinline__ void cp_async_8(void* shared, const void* global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;\n" ::"r"(shared_address(shared)),
               "l"(global)
               : "memory");
}

/// 4 bytes. PTX ISA: cp.async.ca.shared.global.
__device__ __forceinline__ void cp_async_4(void* shared, const void* global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;\n" ::"r"(shared_address(shared)),
               "l"(global)
               : "memory");
}

/// 8 bytes, or 8 zero bytes when !is_valid. PTX ISA: cp.async.ca.shared.global with src-size.
__device__ __forceinline__ void cp_async_8_or_zero(void* shared, const void* global,
                                                   bool is_valid) {
  const uint32_t source_bytes = is_valid ? 8 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;\n" ::"r"(shared_address(shared)),
               "l"(global), "r"(source_bytes)
               : "memory");
}

/// 4 bytes, or 4 zero bytes when !is_valid. PTX ISA: cp.async.ca.shared.global with src-size.
__device__ __forceinline__ void cp_async_4_or_zero(void* shared, const void* global,
                                                   bool is_valid) {
  const uint32_t source_bytes = is_valid ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared_address(shared)),
               "l"(global), "r"(source_bytes)
               : "memory");
}

/// Closes the group of this thread's copies since the last commit. PTX ISA: cp.async.commit_group.
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}

/// Waits until at most kNumPending of this thread's latest groups are under way. PTX ISA:
/// cp.async.wait_group.
template <int kNumPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kNumPending) : "memory");
}

/// The barrier's current phase also waits for this thread's copies so far; the arrival is counted
/// by the barrier as one of those given to mbarrier_init. PTX ISA: cp.async.mbarrier.arrive.noinc.
__device__ __forceinline__ void cp_async_arrive(uint64_t* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];\n" ::"r"(shared_address(barrier))
               : "memory");
}

}  // namespace comet::prims
