// What a kernel says about its own running: register budgets of warpgroups, dependent launches,
// barriers of some of the CTA's threads, one elected lane. Callers: kernels of any room.
#pragma once

#include <cstdint>

namespace comet::prims {

/// This warpgroup's registers per thread grow to kNumRegisters (a multiple of 8, 24…256), waiting
/// until others gave theirs; the kernel has __launch_bounds__. PTX ISA: setmaxnreg.inc (sm_90a;
/// nothing elsewhere).
template <int kNumRegisters>
__device__ __forceinline__ void registers_grow() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kNumRegisters));
#endif
}

/// This warpgroup gives registers back, down to kNumRegisters. PTX ISA: setmaxnreg.dec (sm_90a;
/// nothing elsewhere).
template <int kNumRegisters>
__device__ __forceinline__ void registers_shrink() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kNumRegisters));
#endif
}

/// Waits until the kernel before this one in the stream has ended and its writes are visible; at
/// once in a plain launch. PTX ISA: griddepcontrol.wait (sm_90; nothing below).
__device__ __forceinline__ void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}

/// Allows the next kernel's CTAs to start when all of this one's have said so or ended; they still
/// wait for its writes. PTX ISA: griddepcontrol.launch_dependents (sm_90; nothing below).
__device__ __forceinline__ void allow_next_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}

/// Adds one to a word in global memory; what this thread wrote before, and has seen written, is
/// visible to those who see the sum. PTX ISA: red.release.gpu (sm_70).
__device__ __forceinline__ void arrive_at(uint32_t* arrivals) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;\n" ::"l"(arrivals) : "memory");
}

/// Waits until so many have arrived. PTX ISA: ld.acquire.gpu (sm_70).
__device__ __forceinline__ void wait_for_arrivals(const uint32_t* arrivals, uint32_t num) {
  uint32_t seen = 0;
  do {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];\n" : "=r"(seen) : "l"(arrivals) : "memory");
  } while (seen < num);
}

/// Of those that waited: counts one of num_all, all that arrive and that wait, and the last makes
/// the word 0 for the next launch.
__device__ __forceinline__ void leave_arrivals(uint32_t* arrivals, uint32_t num_all) {
  if (atomicAdd(arrivals, 1U) + 1 == num_all) *arrivals = 0;
}

/// Keeps the compiler from working out a value of 32 bits later than here, or again. No
/// instruction.
template <class T>
__device__ __forceinline__ void keep(T& value) {
  asm volatile("" : "+r"(value));
}

/// Barrier barrier_idx (1…15; 0 is __syncthreads) of num_threads (whole warps). PTX ISA:
/// barrier.sync, its old name bar.sync.
__device__ __forceinline__ void named_barrier_sync(uint32_t barrier_idx, uint32_t num_threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(barrier_idx), "r"(num_threads) : "memory");
}

/// Counts this warp at the barrier without waiting. PTX ISA: barrier.arrive, its old name
/// bar.arrive.
__device__ __forceinline__ void named_barrier_arrive(uint32_t barrier_idx, uint32_t num_threads) {
  asm volatile("bar.arrive %0, %1;\n" ::"r"(barrier_idx), "r"(num_threads) : "memory");
}

/// True in one lane of a converged warp. PTX ISA: elect.sync (sm_90), lane 0 below.
__device__ __forceinline__ bool elect_one() {
#if __CUDA_ARCH__ >= 900
  uint32_t is_elected = 0;
  asm volatile(
      "{\n.reg .pred p;\n"
      "elect.sync _|p, 0xFFFFFFFF;\n"
      "selp.u32 %0, 1, 0, p;\n}\n"
      : "=r"(is_elected));
  return is_elected != 0;
#else
  return (threadIdx.x & 31U) == 0;
#endif
}

/// threadIdx.x, read anew at each call: what follows from it is made where it is used and holds no
/// registers before. PTX ISA: %tid.x.
__device__ __forceinline__ uint32_t thread_idx_anew() {
  uint32_t idx;
  asm volatile("mov.u32 %0, %%tid.x;\n" : "=r"(idx));
  return idx;
}

/// The same value, of which the compiler knows nothing: what follows from it is made behind this.
/// No instruction.
__device__ __forceinline__ uint32_t value_anew(uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

/// About `ns` nanoseconds, at most a millisecond. PTX ISA: nanosleep (sm_70).
__device__ __forceinline__ void sleep_ns(uint32_t ns) {
  asm volatile("nanosleep.u32 %0;\n" ::"r"(ns));
}

}  // namespace comet::prims
