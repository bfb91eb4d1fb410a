// Barriers in shared memory that count arrivals and, on sm_90, bytes of bulk copies. A phase ends
// when all arrivals and bytes are there; waiting names the phase by its parity: 0 first, then 1, …
// A wait for parity 1 on a barrier just made returns at once. Callers: pipelined kernels.
// PTX ISA: "Parallel synchronization and communication instructions: mbarrier".
#pragma once

#include <cstdint>

#include "comet/device/cuda/prims/shared_address.cuh"

namespace comet::prims {

/// One thread; then mbarrier_init_fence, then a CTA barrier. PTX ISA: mbarrier.init (sm_80).
__device__ __forceinline__ void mbarrier_init(uint64_t* barrier, uint32_t num_arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;\n" ::"r"(shared_address(barrier)),
               "r"(num_arrivals)
               : "memory");
}

/// Makes inits visible to bulk copies. PTX ISA: fence.mbarrier_init (sm_90; nothing below).
__device__ __forceinline__ void mbarrier_init_fence() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
#endif
}

/// PTX ISA: mbarrier.arrive (sm_80).
__device__ __forceinline__ void mbarrier_arrive(uint64_t* barrier) {
  asm volatile(
      "{\n.reg .b64 state;\n"
      "mbarrier.arrive.shared.b64 state, [%0];\n}\n" ::"r"(shared_address(barrier))
      : "memory");
}

/// One arrival, and the phase also waits for `bytes` of bulk copies. PTX ISA:
/// mbarrier.arrive.expect_tx (sm_90; traps below).
__device__ __forceinline__ void mbarrier_arrive_expect_tx(uint64_t* barrier, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n.reg .b64 state;\n"
      "mbarrier.arrive.expect_tx.shared.b64 state, [%0], %1;\n}\n" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
#else
  __trap();
#endif
}

/// Whether the phase of this parity has ended; may sleep a while before it says no. PTX ISA:
/// mbarrier.try_wait.parity (sm_90), mbarrier.test_wait.parity (sm_80).
__device__ __forceinline__ bool mbarrier_try_wait(uint64_t* barrier, uint32_t parity) {
  uint32_t is_done = 0;
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}\n"
      : "=r"(is_done)
      : "r"(shared_address(barrier)), "r"(parity)
      : "memory");
#else
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}\n"
      : "=r"(is_done)
      : "r"(shared_address(barrier)), "r"(parity)
      : "memory");
#endif
  return is_done != 0;
}

__device__ __forceinline__ void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  while (!mbarrier_try_wait(barrier, parity)) {}
}

}  // namespace comet::prims
