// out [rows, n] = GELU(x [rows, k] · w [n, k]ᵀ + bias); sm_90a.
//
// Few channels and many rows: bytes decide, and the end costs as many instructions as the store has
// bytes to wait for. So a CTA keeps its kN rows of w (all of k) in shared memory for good, and each
// of its consumer warpgroups takes tiles of 64 rows by itself: while one multiplies, others apply
// GELU or wait for their store. Nothing but the weight is shared between them.
// Operands: tensor maps with boxes of 64 channels (128 bytes, 128-byte swizzle); channels beyond k
// read as 0. x: A operand, w: B operand, both from shared memory.
// Roles: kConsumers warpgroups; one warpgroup whose warp c issues the copies of consumer c.
// A tile: boxes of x through a ring of num_stages; products of 16 channels, a box's in a row, into
// kN / 2 registers; bias, GELU; BF16 to a staging tile; tensor copies to `out`, awaited before the
// staging tile is used again. Grid: an SM each; CTA i has columns kN · (i % num_column_tiles), and
// the row tiles that CTAs of these columns share out one by one. Floor: stage 1 of InceptionNeXt-T
// at 128 images (401,408 rows, 96 → 384): 385 MB, 90 µs at 4.3 TB/s; about 18 instructions an
// output: 105 µs on 132 SMs at 1.75 GHz.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/convert.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/device/cuda/prims/wgmma.cuh"
#include "comet/device/cuda/prims/wgmma_bf16.cuh"
#include "comet/ops/gelu/cuda/gelu.cuh"

namespace comet::ops_cuda::rows_gemm {

constexpr int kTileRows = 64;
constexpr int kBoxChannels = 64;
constexpr int kBoxBytes = kTileRows * 128;  // of x, and of the staging tile
constexpr int kAlignment = 1024;            // of swizzled boxes
constexpr int kSharedBytes = 227 * 1024;
constexpr int kMaxStages = 8;

struct Params {
  const float* bias;
  int32_t n;
  int32_t num_boxes;    // of 64 channels along k
  int32_t num_stages;   // of a consumer's ring
  int32_t num_columns;  // tiles of kN
  int32_t num_row_tiles;
};

template <int kN_, int kConsumers_, int kConsumerRegisters_, int kLastSteps_>
struct Traits {
  static constexpr int kLastSteps = kLastSteps_;  // of 16 channels in the last box, at most
  static constexpr int kN = kN_;
  static constexpr int kConsumers = kConsumers_;
  static constexpr int kConsumerRegisters = kConsumerRegisters_;
  static constexpr int kThreads = 128 * (kConsumers + 1);
  static constexpr int kWeightBoxBytes = kN * 128;
  static constexpr int kStagingBytes = kN / kBoxChannels * kBoxBytes;
  /// Bias and barriers.
  static constexpr int kControlBytes = kN * 4 + 8 * (1 + 2 * kConsumers * kMaxStages);
  static_assert(kN % kBoxChannels == 0 && kWeightBoxBytes % kAlignment == 0);

  static constexpr int bytes_without_ring(int num_boxes) {
    return kAlignment + num_boxes * kWeightBoxBytes + kConsumers * kStagingBytes + kControlBytes;
  }
  static constexpr int num_stages(int num_boxes) {
    const int fit = (kSharedBytes - bytes_without_ring(num_boxes)) / (kConsumers * kBoxBytes);
    return fit < kMaxStages ? fit : kMaxStages;
  }
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

struct Shared {
  uint8_t* weights;
  uint8_t* ring;     // of this consumer
  uint8_t* staging;  // likewise
  float* bias;
  uint64_t* weights_full;
  uint64_t* full;  // of this consumer's ring
  uint64_t* empty;
};

/// Where consumer `c` has its things.
template <class T>
__device__ __forceinline__ Shared shared_of(uint8_t* raw, const Params& p, int c) {
  const uint32_t address = prims::shared_address(raw);
  Shared s;
  s.weights = raw + ((kAlignment - address % kAlignment) % kAlignment);
  uint8_t* staging = s.weights + p.num_boxes * T::kWeightBoxBytes;
  uint8_t* ring = staging + T::kConsumers * T::kStagingBytes;
  s.staging = staging + c * T::kStagingBytes;
  s.ring = ring + c * p.num_stages * kBoxBytes;
  auto* barriers = reinterpret_cast<uint64_t*>(ring + T::kConsumers * p.num_stages * kBoxBytes);
  s.weights_full = barriers;
  s.full = barriers + 1 + 2 * kMaxStages * c;
  s.empty = s.full + kMaxStages;
  s.bias = reinterpret_cast<float*>(barriers + 1 + 2 * kMaxStages * T::kConsumers);
  return s;
}

/// Position in a ring.
struct StageIndex {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance(int num_stages) {
    if (++stage == num_stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/// The row tiles of one consumer: first, first + step, …
struct TileRange {
  int column = 0;  // first column of out
  int first = 0;
  int step = 0;
};

template <class T>
__device__ __forceinline__ TileRange tiles_of(const Params& p, int c) {
  const auto cta = static_cast<int>(blockIdx.x);
  const int rank = cta / p.num_columns;  // among the CTAs of these columns
  const int num_ctas =
      (static_cast<int>(gridDim.x) - cta % p.num_columns + p.num_columns - 1) / p.num_columns;
  return {cta % p.num_columns * T::kN, rank * T::kConsumers + c, num_ctas * T::kConsumers};
}

/// One thread: the weight (consumer 0's), then the boxes of x of every tile.
template <class T>
__device__ __forceinline__ void load(const Params& p, const Shared& s, const CUtensorMap* w_map,
                                     const CUtensorMap* x_map, int c) {
  const TileRange tiles = tiles_of<T>(p, c);
  if (c == 0) {
    prims::mbarrier_arrive_expect_tx(s.weights_full,
                                     static_cast<uint32_t>(p.num_boxes * T::kWeightBoxBytes));
    for (int box = 0; box < p.num_boxes; ++box) {
      prims::tensor_load_2d(s.weights + box * T::kWeightBoxBytes, w_map, box * kBoxChannels,
                            tiles.column, s.weights_full);
    }
  }
  StageIndex at;
  for (int tile = tiles.first; tile < p.num_row_tiles; tile += tiles.step) {
    for (int box = 0; box < p.num_boxes; ++box, at.advance(p.num_stages)) {
      prims::mbarrier_wait(s.empty + at.stage, at.parity ^ 1);
      prims::mbarrier_arrive_expect_tx(s.full + at.stage, kBoxBytes);
      prims::tensor_load_2d(s.ring + at.stage * kBoxBytes, x_map, box * kBoxChannels,
                            tile * kTileRows, s.full + at.stage);
    }
  }
}

/// Products of the first kSteps · 16 channels of a box of x, which is released.
template <class T, int kSteps>
__device__ __forceinline__ void multiply_box(float (&sums)[T::kN / 2], const Shared& s, int box,
                                             const StageIndex& at) {
  prims::mbarrier_wait(s.full + at.stage, at.parity);
  const uint64_t a = prims::wgmma_descriptor_k128(s.ring + at.stage * kBoxBytes);
  const uint64_t b = prims::wgmma_descriptor_k128(s.weights + box * T::kWeightBoxBytes);
  prims::wgmma_fence();
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const auto bytes = static_cast<uint32_t>(step) * 32;
    prims::WgmmaBf16<T::kN>::ss(sums, prims::wgmma_advance(a, bytes),
                                prims::wgmma_advance(b, bytes), step > 0 || box > 0 ? 1 : 0);
  }
  prims::wgmma_commit();
  prims::wgmma_wait<0>();
  prims::wgmma_pin(sums);
  __syncwarp();
  if (threadIdx.x % 32 == 0) prims::mbarrier_arrive(s.empty + at.stage);
}

/// sums = the products of one tile. How many steps the last box has is known to the compiler: with
/// a branch among them it has each product wait for the one before.
template <class T>
__device__ __forceinline__ void multiply_tile(float (&sums)[T::kN / 2], const Params& p,
                                              const Shared& s, StageIndex& at) {
  for (int box = 0; box < p.num_boxes - 1; ++box, at.advance(p.num_stages)) {
    multiply_box<T, 4>(sums, s, box, at);
  }
  multiply_box<T, T::kLastSteps>(sums, s, p.num_boxes - 1, at);
  at.advance(p.num_stages);
}

/// GELU(sums + bias) as BF16 to the staging tile: boxes of 64 columns, swizzled as the copy wants
/// them. Eight rows of a warp at once write 128 bytes without a conflict.
template <class T>
__device__ __forceinline__ void stage_tile(const float (&sums)[T::kN / 2], const Shared& s) {
  const auto thread = static_cast<uint32_t>(threadIdx.x) % 128;
  const uint32_t row = thread / 32 * 16 + thread % 32 / 4;
  const uint32_t quad = thread % 4;
#pragma unroll
  for (int i = 0; i < T::kN / 8; ++i) {
    const float2 bias = reinterpret_cast<const float2*>(s.bias)[4 * i + static_cast<int>(quad)];
    uint8_t* box = s.staging + i / 8 * kBoxBytes;
    const uint32_t column_bytes = static_cast<uint32_t>(i % 8) * 16 + quad * 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float low = gelu_of(sums[4 * i + 2 * half] + bias.x);
      const float high = gelu_of(sums[4 * i + 2 * half + 1] + bias.y);
      *reinterpret_cast<uint32_t*>(
          box + prims::swizzle_128(row + 8 * static_cast<uint32_t>(half), column_bytes)) =
          prims::bf16x2_of(low, high);
    }
  }
}

template <class T>
__device__ __forceinline__ void consume(const Params& p, const Shared& s,
                                        const CUtensorMap* out_map, int c) {
  const TileRange tiles = tiles_of<T>(p, c);
  const auto barrier = static_cast<uint32_t>(c) + 1;
  // Of this warp one lane stores: the same each time it is elected, without loops over lanes.
  const bool stores = threadIdx.x % 128 < 32;
  prims::mbarrier_wait(s.weights_full, 0);
  float sums[T::kN / 2];
  StageIndex at;
  for (int tile = tiles.first; tile < p.num_row_tiles; tile += tiles.step) {
    multiply_tile<T>(sums, p, s, at);
    if (stores && prims::elect_one()) prims::bulk_wait_read<0>();  // of the tile before
    prims::named_barrier_sync(barrier, 128);
    stage_tile<T>(sums, s);
    prims::fence_proxy_async();
    prims::named_barrier_sync(barrier, 128);
    if (stores && prims::elect_one()) {
#pragma unroll
      for (int box = 0; box < T::kN / kBoxChannels; ++box) {
        const int column = tiles.column + box * kBoxChannels;
        if (column >= p.n) break;
        prims::tensor_store_2d(out_map, s.staging + box * kBoxBytes, column, tile * kTileRows);
      }
      prims::bulk_commit();
    }
  }
  if (stores && prims::elect_one()) prims::bulk_wait_read<0>();
}

#endif

}  // namespace comet::ops_cuda::rows_gemm
