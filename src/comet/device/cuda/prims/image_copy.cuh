// Copies of boxes of images (4-d tensors described by make_image_map) by the copy engine of an SM
// (sm_90), as bulk_copy.cuh's of matrices. Callers: kernels over images; below sm_90 they trap.
// Alignment: shared addresses 128 bytes; x, the innermost coordinate, 16 bytes of elements: others
// end in cudaErrorIllegalInstruction.
#pragma once

#include <cstdint>

#include "comet/device/cuda/prims/shared_address.cuh"

namespace comet::prims {

/// The first element of a box of a 4-d tensor, innermost axis first.
struct BoxAt4d {
  int32_t x = 0;
  int32_t y = 0;
  int32_t z = 0;
  int32_t w = 0;
};

/// A box of a 4-d tensor → shared. PTX ISA: cp.async.bulk.tensor.4d with .tile.
__device__ __forceinline__ void tensor_load_4d(void* shared, const void* tensor_map,
                                               const BoxAt4d& at, uint64_t* barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3, %4, %5}], [%6];\n" ::"r"(shared_address(shared)),
      "l"(tensor_map), "r"(at.x), "r"(at.y), "r"(at.z), "r"(at.w), "r"(shared_address(barrier))
      : "memory");
#else
  __trap();
#endif
}

/// A box of a 4-d tensor → L2. PTX ISA: cp.async.bulk.prefetch.tensor.4d.L2 with .tile.
__device__ __forceinline__ void tensor_prefetch_4d(const void* tensor_map, const BoxAt4d& at) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.prefetch.tensor.4d.L2.global.tile [%0, {%1, %2, %3, %4}];\n" ::"l"(tensor_map),
      "r"(at.x), "r"(at.y), "r"(at.z), "r"(at.w)
      : "memory");
#else
  __trap();
#endif
}

/// Shared → a box of a 4-d tensor, as tensor_store_2d. PTX ISA:
/// cp.async.bulk.tensor.4d.global.shared::cta.
__device__ __forceinline__ void tensor_store_4d(const void* tensor_map, const void* shared,
                                                const BoxAt4d& at) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%1, %2, %3, %4}], [%5];\n" ::"l"(
          tensor_map),
      "r"(at.x), "r"(at.y), "r"(at.z), "r"(at.w), "r"(shared_address(shared))
      : "memory");
#else
  __trap();
#endif
}

}  // namespace comet::prims
