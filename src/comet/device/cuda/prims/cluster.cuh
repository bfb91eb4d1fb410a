// CTAs of a cluster (sm_90): their rank, a barrier of all, and reads of one another's shared
// memory. Callers: kernels launched with cudaLaunchAttributeClusterDimension; below sm_90 a CTA is
// alone. Every thread of every CTA takes part in the barrier (those that ended need not). A CTA
// whose memory is read may not end before another barrier.
#pragma once

#include <cstdint>

#include "comet/device/cuda/prims/shared_address.cuh"

namespace comet::prims {

/// PTX ISA: %cluster_ctarank.
__device__ __forceinline__ uint32_t cluster_rank() {
#if __CUDA_ARCH__ >= 900
  uint32_t rank = 0;
  asm volatile("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank));
  return rank;
#else
  return 0;
#endif
}

/// The two halves of a barrier of the cluster. What a thread wrote to its CTA's shared memory is
/// there for the others behind cluster_fence_shared, arrive, wait; without the fence nobody may
/// read anything for it, but CTAs have not ended. (An arrive.release waits until all global writes
/// of the thread are done.) PTX ISA: fence.release.sync_restrict
/// ::shared::cta.cluster; barrier.cluster.arrive.relaxed, barrier.cluster.wait.
__device__ __forceinline__ void cluster_fence_shared() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.release.sync_restrict::shared::cta.cluster;\n" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_arrive_relaxed() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.relaxed;\n" ::: "memory");
#endif
}
/// Behind it and wait all that the thread wrote is there for the others, in global memory too,
/// which is waited for. PTX ISA: barrier.cluster.arrive.release.
__device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release;\n" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire;\n" ::: "memory");
#endif
}

/// Four words of CTA `rank`, at the place that `shared` has in this CTA (16-byte aligned). PTX
/// ISA: mapa, ld.shared::cluster.
__device__ __forceinline__ int4 cluster_load(const int32_t* shared, uint32_t rank) {
#if __CUDA_ARCH__ >= 900
  int4 v;
  asm volatile(
      "{\n.reg .u32 there;\n"
      "mapa.shared::cluster.u32 there, %4, %5;\n"
      "ld.shared::cluster.v4.s32 {%0, %1, %2, %3}, [there];\n}\n"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "r"(shared_address(shared)), "r"(rank)
      : "memory");
  return v;
#else
  return *reinterpret_cast<const int4*>(shared);
#endif
}

/// The same of four floats.
__device__ __forceinline__ float4 cluster_load(const float* shared, uint32_t rank) {
  const int4 v = cluster_load(reinterpret_cast<const int32_t*>(shared), rank);
  return make_float4(__int_as_float(v.x), __int_as_float(v.y), __int_as_float(v.z),
                     __int_as_float(v.w));
}

}  // namespace comet::prims
