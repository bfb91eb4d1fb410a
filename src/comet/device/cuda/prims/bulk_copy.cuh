// Copies by the copy engine of an SM (sm_90): contiguous bytes, or boxes of a tensor described by a
// CUtensorMap, to shared memory with the bytes counted by an mbarrier, and back. One thread issues
// a copy for the CTA. Callers: pipelined sm_90a kernels; below sm_90 every function traps.
// PTX ISA: "Data movement and conversion instructions: asynchronous copy: bulk, tensor".
// Alignment: addresses and sizes of bulk copies 16 bytes; shared boxes of tensor copies 128 bytes
// (1,024 with 128-byte swizzle).
#pragma once

#include <cstdint>

#include "comet/device/cuda/prims/shared_address.cuh"

namespace comet::prims {

/// How long L2 keeps the lines of a copy: the encodings of createpolicy.fractional with fraction 1.
constexpr uint64_t kEvictNormal = 0x1000000000000000;
constexpr uint64_t kEvictFirst = 0x12F0000000000000;  // read once: weights at small batches
constexpr uint64_t kEvictLast = 0x14F0000000000000;   // read by every CTA: activations

/// Bytes global → shared. PTX ISA: cp.async.bulk.shared.global with .mbarrier::complete_tx::bytes.
__device__ __forceinline__ void bulk_load(void* shared, const void* global, uint32_t bytes,
                                          uint64_t* barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
      "[%3];\n" ::"r"(shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
#else
  __trap();
#endif
}

/// As bulk_load, with a cache policy (kEvict…). PTX ISA: cp.async.bulk with .L2::cache_hint.
__device__ __forceinline__ void bulk_load_hint(void* shared, const void* global, uint32_t bytes,
                                               uint64_t* barrier, uint64_t policy) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], "
      "[%1], %2, [%3], %4;\n" ::"r"(shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
      : "memory");
#else
  __trap();
#endif
}

/// Bytes shared → global, after fence_proxy_async; closed by bulk_commit. PTX ISA:
/// cp.async.bulk.global.shared::cta with .bulk_group.
__device__ __forceinline__ void bulk_store(void* global, const void* shared, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\n" ::"l"(global),
               "r"(shared_address(shared)), "r"(bytes)
               : "memory");
#else
  __trap();
#endif
}

/// PTX ISA: cp.async.bulk.commit_group.
__device__ __forceinline__ void bulk_commit() {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.commit_group;\n" ::: "memory");
#else
  __trap();
#endif
}

/// Waits until the groups of this thread are done and what they wrote is visible to it. PTX ISA:
/// cp.async.bulk.wait_group.
__device__ __forceinline__ void bulk_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.wait_group 0;\n" ::: "memory");
#else
  __trap();
#endif
}

/// Waits until at most kNumPending groups of this thread still read shared memory. PTX ISA:
/// cp.async.bulk.wait_group.read.
template <int kNumPending>
__device__ __forceinline__ void bulk_wait_read() {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.wait_group.read %0;\n" ::"n"(kNumPending) : "memory");
#else
  __trap();
#endif
}

/// A box of a 2-d tensor → shared; x_idx counts elements of the innermost axis. PTX ISA:
/// cp.async.bulk.tensor.2d with .tile.
__device__ __forceinline__ void tensor_load_2d(void* shared, const void* tensor_map, int32_t x_idx,
                                               int32_t y_idx, uint64_t* barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], [%4];\n" ::"r"(shared_address(shared)),
      "l"(tensor_map), "r"(x_idx), "r"(y_idx), "r"(shared_address(barrier))
      : "memory");
#else
  __trap();
#endif
}

/// As tensor_load_2d, with a cache policy. PTX ISA: cp.async.bulk.tensor.2d with .L2::cache_hint.
__device__ __forceinline__ void tensor_load_2d_hint(void* shared, const void* tensor_map,
                                                    int32_t x_idx, int32_t y_idx, uint64_t* barrier,
                                                    uint64_t policy) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3}], [%4], %5;\n" ::"r"(shared_address(shared)),
      "l"(tensor_map), "r"(x_idx), "r"(y_idx), "r"(shared_address(barrier)), "l"(policy)
      : "memory");
#else
  __trap();
#endif
}

/// A box of a 3-d tensor → shared. PTX ISA: cp.async.bulk.tensor.3d with .tile.
__device__ __forceinline__ void tensor_load_3d(void* shared, const void* tensor_map, int32_t x_idx,
                                               int32_t y_idx, int32_t z_idx, uint64_t* barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3, %4}], [%5];\n" ::"r"(shared_address(shared)),
      "l"(tensor_map), "r"(x_idx), "r"(y_idx), "r"(z_idx), "r"(shared_address(barrier))
      : "memory");
#else
  __trap();
#endif
}

/// Shared → a box of a 2-d tensor, after fence_proxy_async; closed by bulk_commit. PTX ISA:
/// cp.async.bulk.tensor.2d.global.shared::cta.
__device__ __forceinline__ void tensor_store_2d(const void* tensor_map, const void* shared,
                                                int32_t x_idx, int32_t y_idx) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];\n" ::"l"(
          tensor_map),
      "r"(x_idx), "r"(y_idx), "r"(shared_address(shared))
      : "memory");
#else
  __trap();
#endif
}

/// The map itself into the constant cache. PTX ISA: prefetch.tensormap.
__device__ __forceinline__ void tensor_map_prefetch(const void* tensor_map) {
#if __CUDA_ARCH__ >= 900
  asm volatile("prefetch.tensormap [%0];\n" ::"l"(tensor_map) : "memory");
#else
  __trap();
#endif
}

/// Bytes global → L2 (size a multiple of 16). PTX ISA: cp.async.bulk.prefetch.L2.
__device__ __forceinline__ void bulk_prefetch_l2(const void* global, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;\n" ::"l"(global), "r"(bytes) : "memory");
#else
  __trap();
#endif
}

/// Orders plain accesses to shared memory before those of bulk copies and wgmma. PTX ISA:
/// fence.proxy.async.shared::cta (sm_90; nothing below, where such accesses do not exist).
__device__ __forceinline__ void fence_proxy_async() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
#endif
}

}  // namespace comet::prims
