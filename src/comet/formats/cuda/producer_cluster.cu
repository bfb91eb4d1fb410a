// w4ax codes of few long rows: silu(gate) · up, permuted, [rotated,] one scale a segment.
//
// Operands: gate, up BF16 rows of k channels; permutation int32 [blocks · 128] or none; codes s8
// [rows, blocks · 128], scales FP32 [rows, 2].
// Grid: a cluster of 8 CTAs per row; CTA r has the r-th eighth of the row's blocks of 128 stored
// positions, a thread 8 neighbouring positions.
// Stages: without a permutation gate and up come straight from memory; with one, the whole row by
// bulk copies into every CTA's shared memory (2 × 28 KB of 14,336 channels), whence it is gathered.
// SiLU, rotation in registers; absmax of the CTA, then of the cluster over distributed shared
// memory; code. The permutation is in registers before the rows are waited for.
// Numerics: device functions of producer.cuh, so the bits of the kernel there.
// One SM alone needs 0.95 µs of 14,336 channels for the exponentials and quotients (two of 16 a
// clock), as long for the shuffles of the rotation and 0.8 µs for the gather; here it is an eighth
// each, for two barriers of the cluster and, permuted, 57 KB from L2 an SM (0.5 µs).
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/cluster.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/formats/cuda/producer.cuh"
#include "comet/formats/cuda/producer_cluster.h"

namespace comet::formats::cuda {
namespace {

constexpr int kCtas = 8;          // of a row; what a cluster may have anywhere
constexpr int64_t kMaxRows = 16;  // 128 CTAs, one an SM
constexpr int64_t kMinChannels = 8192;
constexpr int64_t kMaxChannels = 32768;  // 128 KB of gate and up, 512 threads
constexpr int kMaxClusterThreads = 512;

struct ClusterScratch {
  BlockScratch block;
  alignas(16) int32_t tops[4];  // of this CTA's segments; two more for a read of four words
  uint64_t barrier;
};

/// The largest of each of two values over the cluster. Other CTAs read `scratch` until they arrive
/// at another barrier of the cluster.
__device__ __forceinline__ void cluster_max(Tops& tops, ClusterScratch& scratch) {
  block_max(tops, scratch.block);
  if (threadIdx.x == 0) {
    scratch.tops[0] = static_cast<int32_t>(tops[0]);
    scratch.tops[1] = static_cast<int32_t>(tops[1]);
    prims::cluster_fence_shared();
  }
  prims::cluster_arrive_relaxed();
  prims::cluster_wait();
  const int4 theirs = prims::cluster_load(scratch.tops, threadIdx.x % kCtas);
  tops[0] = __reduce_max_sync(kAllLanes, static_cast<uint32_t>(theirs.x));
  tops[1] = __reduce_max_sync(kAllLanes, static_cast<uint32_t>(theirs.y));
}

/// The row's gate and up, behind each other in shared memory, once the kernel before has ended.
__device__ __forceinline__ void copy_row(const RowSource& source, int64_t row_idx, uint8_t* shared,
                                         uint64_t* barrier) {
  const auto bytes = static_cast<uint32_t>(source.k) * 2;
  prims::mbarrier_arrive_expect_tx(barrier, 2 * bytes);
  prims::bulk_load(shared,
                   static_cast<const uint8_t*>(source.x.data) + row_idx * source.x.stride * 2,
                   bytes, barrier);
  prims::bulk_load(
      shared + bytes,
      static_cast<const uint8_t*>(source.other.data) + row_idx * source.other.stride * 2, bytes,
      barrier);
}

/// Without a permutation: a chunk of gate and up as they lie in memory.
__device__ __forceinline__ void read_chunk(const RowSource& source, int64_t row_idx, int chunk,
                                           bool is_valid, float (&v)[kChunk]) {
  prims::wait_for_previous_kernel();
  const SourceRow<SourceKind::kSiluMul> row{source, row_idx, true};
  if (is_valid) row.chunk(chunk * kChunk, v);
}

/// With one: the chunk's channels from the whole row in shared memory.
__device__ __forceinline__ void gather_chunk(const RowSource& from, const int32_t* perm,
                                             int64_t row_idx, int chunk, bool is_valid,
                                             uint8_t* shared, uint64_t* barrier,
                                             float (&v)[kChunk]) {
  int32_t channels[kChunk] = {};
  if (is_valid) load_perm(perm, chunk * kChunk, channels);
  if (threadIdx.x < 32 && prims::elect_one()) {
    prims::mbarrier_init(barrier, 1);
    prims::mbarrier_init_fence();
    prims::wait_for_previous_kernel();
    copy_row(from, row_idx, shared, barrier);
  }
  __syncthreads();                    // the barrier is there
  prims::wait_for_previous_kernel();  // for this thread: it may still read what is written here
  prims::mbarrier_wait(barrier, 0);
  RowSource source = from;
  source.x = {shared, 0, FloatType::kBf16};
  source.other = {shared + source.k * 2, 0, FloatType::kBf16};
  const SourceRow<SourceKind::kSiluMul> row{source, 0, true};
  if (!is_valid) return;
  // No branches between loads.
#pragma unroll
  for (int i = 0; i < kChunk; ++i) v[i] = row.at(max(channels[i], 0));
#pragma unroll
  for (int i = 0; i < kChunk; ++i) v[i] = channels[i] >= 0 ? v[i] : 0.0F;
}

template <bool kPermuted>
__global__ void __launch_bounds__(kMaxClusterThreads)
    silu_cluster_kernel(const RowSource source, const BlockSink sink, int chunks_of_cta) {
  extern __shared__ __align__(128) uint8_t rows[];
  __shared__ ClusterScratch scratch;
  prims::allow_next_kernel();  // a product, which loads weights until this kernel ends
  const auto rank = static_cast<int>(prims::cluster_rank());
  const int64_t row_idx = blockIdx.x / kCtas;
  const int num_chunks = static_cast<int>(sink.blocks) * kBlockLanes;
  const int chunk = rank * chunks_of_cta + static_cast<int>(threadIdx.x);
  const bool is_valid = static_cast<int>(threadIdx.x) < chunks_of_cta && chunk < num_chunks;
  float v[kChunk] = {};
  if constexpr (kPermuted) {
    gather_chunk(source, sink.perm, row_idx, chunk, is_valid, rows, &scratch.barrier, v);
  } else {
    read_chunk(source, row_idx, chunk, is_valid, v);
  }
  const bool is_int4 = chunk < static_cast<int>(sink.int4_blocks) * kBlockLanes;
  if (sink.scale == BlockScale::kSegmentRotated) rotate_where(is_int4, v);

  Tops tops = {0, 0};
  add_top(v, is_int4, tops);
  cluster_max(tops, scratch);
  const RowCoder<BlockSink> coder(sink, tops);
  if (rank == 0 && threadIdx.x == 0) coder.store_scales(sink, row_idx);
  if (is_valid) {
    int8_t* codes = sink.codes + (row_idx * num_chunks + chunk) * kChunk;
    *reinterpret_cast<uint2*>(codes) = coder.codes(v, is_int4);
  }
  prims::cluster_arrive_relaxed();  // the others' maxima are read: codes depend on them
  prims::cluster_wait();
}

}  // namespace

bool produce_w4ax_by_clusters(const RowSource& source, const BlockSink& sink, CUstream_st* stream) {
  const bool suits = source.kind == SourceKind::kSiluMul && source.rows <= kMaxRows &&
                     source.k >= kMinChannels && source.k <= kMaxChannels &&
                     source.x.type == FloatType::kBf16 && source.other.type == FloatType::kBf16 &&
                     chunks_are_aligned(source) && sink.scale != BlockScale::kBlock;
  if (!suits || !runs_sm90_code()) return false;
  const auto blocks_of_cta = static_cast<int>((sink.blocks + kCtas - 1) / kCtas);
  const int chunks_of_cta = blocks_of_cta * kBlockLanes;
  const int num_threads = (chunks_of_cta + 31) / 32 * 32;
  const bool is_permuted = sink.perm != nullptr;
  const int bytes = is_permuted ? static_cast<int>(source.k) * 4 : 0;
  auto* kernel = is_permuted ? silu_cluster_kernel<true> : silu_cluster_kernel<false>;
  COMET_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  LaunchShape shape{dim3(static_cast<unsigned>(source.rows * kCtas)), num_threads, bytes, stream};
  shape.cluster = kCtas;
  launch_overlapped(shape, kernel, source, sink, chunks_of_cta);
  return true;
}

}  // namespace comet::formats::cuda
