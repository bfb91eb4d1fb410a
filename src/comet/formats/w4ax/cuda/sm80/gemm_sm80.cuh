// y = x · Wᵀ of w4ax by s4 and s8 mma: y[token, row] with weights as the A operand.
//
// Operands: packed [tiles, blocks, 8192] (tile128: 16 bytes of a lane are, as they lie, the A
//   fragment of one m16n8k64 s4; by shift and mask those of two m16n8k32 s8, 16 times the values),
//   codes s8 [tokens, blocks · 128]. Codes of INT4 blocks pair up for s4, channels b and b + 32 of
//   each 64 in a byte: in registers up to 64 tokens; tiles of 128 tokens read them paired from
//   memory, where L2 sets the pace and half the bytes are half the time (gemm_sm80_codes.cuh).
// Grid: CTAs that stay; each runs the steps of the TileSchedule that are its own. A step is one
//   block of 128 channels of a tile of 128 rows × kTokens tokens (tokens first: neighbours share
//   weights in L2): 8 KiB of weights, kTokens · 128 bytes of codes (64 where paired); kNumStages
//   steps under way by cp.async.
// Roles: 8 warps; each has kUnits × 16 rows and kWarpTokens tokens.
// Numerics: int32 sums of either segment, exact; the INT8 segment's are of 16·q and are shifted
//   back. Parts of tiles leave int32 sums in the workspace; who ends last adds the others': any
//   order gives the same bits, and nobody waits.
// Floor (A100, a model: docs/kernels/w4ax_sm80.md): packed bytes / 1.75 TB/s, or (1 + INT8 share) ·
//   tokens · rows · k / 624 T multiply-adds/s; LLaMA-3-8B gate_up: 34 µs up to 64 tokens, 60 at
//   256.
#pragma once

#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/formats/w4ax/cuda/sm80/gemm_sm80.h"
#include "comet/formats/w4ax/cuda/sm80/gemm_sm80_codes.cuh"
#include "comet/formats/w4ax/cuda/sm80/gemm_sm80_parts.cuh"

namespace comet::formats::w4ax::cuda {

template <int kTileTokens, int kStages, bool kInt4Products>
struct Sm80Traits {
  static constexpr WeightKind kKind = WeightKind::kChannel;  // of gemm_mma.cuh's loader and writer
  static constexpr bool kChains = false;
  static constexpr bool kHasRowParams = false;
  /// Blocks of INT4 codes go through s4 mma; else through s8 mma, as blocks of INT8 codes do.
  static constexpr bool kHasInt4Mma = kInt4Products;
  static constexpr int kTokens = kTileTokens;
  static constexpr bool kHasPairedCodes = kHasInt4Mma && kTokens >= 128;
  static constexpr int kUnits = kTokens >= 32 ? 2 : 1;  // of 16 rows, of a warp
  static constexpr int kRowWarps = 8 / kUnits;
  static constexpr int kWarpTokens = kTokens * kRowWarps / 8;
  static constexpr int kColumns = kWarpTokens / 8;     // mma tiles of 8 tokens, of a warp
  static constexpr int kSums = kUnits * kColumns * 4;  // of a thread and segment
  static constexpr int kMinCtas = kTokens >= 128 ? 1 : 2;
  static constexpr int kBytesShift = 4;  // load_bytes gives 16·q

  static constexpr int kCodesAt = kTileBytes;
  static constexpr int kStageBytes = kCodesAt + kTokens * kBlockChannels;
  static constexpr int kNumStages = kStages;
  static constexpr int kOutPitchF32 = kTileRows + 4;  // padded against bank conflicts
  static constexpr int kOutPitchBf16 = kTileRows + 8;
  static constexpr int kOutBytes = kTokens * kOutPitchF32 * 4;
  static constexpr int kSharedBytes =
      kNumStages * kStageBytes > kOutBytes ? kNumStages* kStageBytes : kOutBytes;

  static_assert(kStageBytes % 16 == 0);
  // kMinCtas of sm_80's 164 KiB, each with 1 KiB that is not ours; one CTA of sm_86 and sm_89.
  static_assert(kSharedBytes <= (kMinCtas == 1 ? 98 : 80) * 1024);
  static_assert(kSums * kNumThreads == kTileRows * kTokens);

  /// A fragments of one unit and half of a block for s8 mma: 16·q.
  static __device__ __forceinline__ void load_bytes(const uint8_t* stage, int unit, int half,
                                                    int lane, uint32_t (&low)[4],
                                                    uint32_t (&high)[4]) {
    expand<kKind>(load_nibbles(stage, unit, half, lane), Levels{}, low, high);
  }
  static __device__ __forceinline__ uint4 load_nibbles(const uint8_t* stage, int unit, int half,
                                                       int lane) {
    return *reinterpret_cast<const uint4*>(stage + half * kHalfBytes + unit * kUnitBytes +
                                           lane * 16);
  }
  /// Calls step(block, stage) for every block of the unit of work, with its data there.
  template <class T, class Step>
  static __device__ __forceinline__ void for_each_block(const Sm80Operands& operands,
                                                        const Place& at, uint8_t* shared,
                                                        const Step& step);
};

template <int kTileTokens, int kStages, bool kInt4Products>
template <class T, class Step>
__device__ __forceinline__ void Sm80Traits<kTileTokens, kStages, kInt4Products>::for_each_block(
    const Sm80Operands& operands, const Place& at, uint8_t* shared, const Step& step) {
  const int num_steps = at.end - at.begin;
  Sm80Loader<T> loader(operands, at);
#pragma unroll 1
  for (int i = 0; i < kNumStages - 1; ++i) {
    if (i < num_steps) {
      loader.load_weights(shared + i * kStageBytes);
      loader.load_codes(shared + i * kStageBytes);
    }
    prims::cp_async_commit();
  }
  int stage = 0;
#pragma unroll 1
  for (int i = 0; i < num_steps; ++i) {
    prims::cp_async_wait<kNumStages - 2>();
    __syncthreads();  // the block is there for all, and all are through with the one before
    if (i + kNumStages - 1 < num_steps) {
      uint8_t* next = shared + (stage == 0 ? kNumStages - 1 : stage - 1) * kStageBytes;
      loader.load_weights(next);
      loader.load_codes(next);
    }
    prims::cp_async_commit();
    step(at.begin + i, shared + stage * kStageBytes);
    stage = stage + 1 == kNumStages ? 0 : stage + 1;
  }
  prims::cp_async_wait<0>();
  __syncthreads();  // shared memory is free for the output
}

// ---- Steps

/// sums += 16 · one block, by s8 mma.
template <class T>
__device__ __forceinline__ void multiply_int8(const uint8_t* stage, const Place& at,
                                              Sums<T>& sums) {
#pragma unroll 1  // both halves at once would not fit in 128 registers
  for (int half = 0; half < 2; ++half) {
    uint32_t low[T::kUnits][4];
    uint32_t high[T::kUnits][4];
#pragma unroll
    for (int u = 0; u < T::kUnits; ++u) {
      T::load_bytes(stage, at.warp_row / 16 + u, half, at.lane, low[u], high[u]);
    }
#pragma unroll
    for (int n = 0; n < T::kColumns; ++n) {
      uint32_t b[4];
      load_code_bytes<T>(stage, at, half, n, b);
      const uint32_t b_low[2] = {b[0], b[1]};
      const uint32_t b_high[2] = {b[2], b[3]};
#pragma unroll
      for (int u = 0; u < T::kUnits; ++u) prims::mma_m16n8k32_s8(sums[u][n], low[u], b_low);
#pragma unroll
      for (int u = 0; u < T::kUnits; ++u) prims::mma_m16n8k32_s8(sums[u][n], high[u], b_high);
    }
  }
}

/// A fragments of one half of a block for s4 mma: weights as they lie.
template <class T>
__device__ __forceinline__ void load_unconverted(const uint8_t* stage, const Place& at, int half,
                                                 uint32_t (&a)[T::kUnits][4]) {
#pragma unroll
  for (int u = 0; u < T::kUnits; ++u) {
    const uint4 raw = T::load_nibbles(stage, at.warp_row / 16 + u, half, at.lane);
    a[u][0] = raw.x;
    a[u][1] = raw.y;
    a[u][2] = raw.z;
    a[u][3] = raw.w;
  }
}

/// sums += one block, by s4 mma; codes are paired here.
template <class T>
__device__ __forceinline__ void multiply_int4(const uint8_t* stage, const Place& at,
                                              Sums<T>& sums) {
#pragma unroll 1
  for (int half = 0; half < 2; ++half) {
    uint32_t a[T::kUnits][4];
    load_unconverted<T>(stage, at, half, a);
#pragma unroll
    for (int n = 0; n < T::kColumns; ++n) {
      uint32_t b[4];
      load_code_bytes<T>(stage, at, half, n, b);
      const uint32_t paired[2] = {pair_nibbles(b[0], b[2]), pair_nibbles(b[1], b[3])};
#pragma unroll
      for (int u = 0; u < T::kUnits; ++u) prims::mma_m16n8k64_s4(sums[u][n], a[u], paired);
    }
  }
}

/// sums += one block, by s4 mma; codes lie paired: both halves in one ldmatrix.
template <class T>
__device__ __forceinline__ void multiply_paired(const uint8_t* stage, const Place& at,
                                                Sums<T>& sums) {
  uint32_t a[2][T::kUnits][4];
  load_unconverted<T>(stage, at, 0, a[0]);
  load_unconverted<T>(stage, at, 1, a[1]);
#pragma unroll
  for (int n = 0; n < T::kColumns; ++n) {
    uint32_t b[4];
    load_paired_codes<T>(stage, at, n, b);
    const uint32_t first[2] = {b[0], b[1]};
    const uint32_t second[2] = {b[2], b[3]};
#pragma unroll
    for (int u = 0; u < T::kUnits; ++u) prims::mma_m16n8k64_s4(sums[u][n], a[0][u], first);
#pragma unroll
    for (int u = 0; u < T::kUnits; ++u) prims::mma_m16n8k64_s4(sums[u][n], a[1][u], second);
  }
}

/// One block into its segment's sums.
template <class T>
__device__ __forceinline__ void multiply_step(const GemmArgs& args, int block, const uint8_t* stage,
                                              const Place& at, Sums<T>& int4, Sums<T>& int8) {
  if (block >= args.int4_blocks) {
    multiply_int8<T>(stage, at, int8);
  } else if constexpr (T::kHasPairedCodes) {
    multiply_paired<T>(stage, at, int4);
  } else if constexpr (T::kHasInt4Mma) {
    multiply_int4<T>(stage, at, int4);
  } else {
    multiply_int8<T>(stage, at, int4);
  }
}

// ---- Output

/// y of a row's and token's sums, before the row's scale.
template <class T>
__device__ __forceinline__ float value_of(const GemmArgs& args, const float2& scales, int32_t int4,
                                          int32_t int8) {
  const float i8 = __int2float_rn(int8 >> T::kBytesShift);
  if (args.int4_blocks == 0) return __fmul_rn(scales.y, i8);
  const float i4 = __int2float_rn(T::kHasInt4Mma ? int4 : int4 >> T::kBytesShift);
  const float low = __fmul_rn(scales.x, i4);
  return args.int4_blocks == args.blocks ? low : __fmaf_rn(scales.y, i8, low);
}

template <class T>
__device__ __forceinline__ void store_tile(const GemmArgs& args, const Place& at, uint8_t* shared,
                                           const Sums<T>& int4, const Sums<T>& int8) {
  const OutputTileWriter<T> writer{args, at, args.tiles[at.tile], shared};
#pragma unroll
  for (int n = 0; n < T::kColumns; ++n) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int token = at.warp_token + n * 8 + at.lane % 4 * 2 + j;
      float2 scales = make_float2(0.0F, 0.0F);
      if (at.first_token + token < args.tokens) {
        scales = reinterpret_cast<const float2*>(args.x_scales)[at.first_token + token];
      }
#pragma unroll
      for (int u = 0; u < T::kUnits; ++u) {
#pragma unroll
        for (int i = j; i < 4; i += 2) {
          const int row = at.warp_row + u * 16 + at.lane / 4 + i / 2 * 8;
          writer.put(row, token, value_of<T>(args, scales, int4[u][n][i], int8[u][n][i]));
        }
      }
    }
  }
  writer.finish();
}

// ---- Kernel

/// The CTA's work in the tile of this step: up to the tile's end or `last_step`.
template <class T>
__device__ __forceinline__ Place sm80_place_of(const GemmArgs& args, int step, int last_step) {
  const int token_tiles = (args.tokens + T::kTokens - 1) / T::kTokens;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int tile = step / args.blocks;
  Place at;
  at.tile = tile / token_tiles;
  at.first_token = tile % token_tiles * T::kTokens;
  at.warp_row = warp % T::kRowWarps * T::kUnits * 16;
  at.warp_token = warp / T::kRowWarps * T::kWarpTokens;
  at.lane = static_cast<int>(threadIdx.x) % 32;
  at.begin = step - tile * args.blocks;
  at.end = min(args.blocks, at.begin + last_step - step);
  return at;
}

template <class T>
__global__ void __launch_bounds__(kNumThreads, T::kMinCtas)
    sm80_kernel(const __grid_constant__ Sm80Operands operands,
                const __grid_constant__ TileSchedule schedule, void* parts, int32_t* counters) {
  extern __shared__ __align__(128) uint8_t shared[];
  const GemmArgs& args = operands.gemm;
  const int last_step = schedule.border[blockIdx.x + 1];
  int step = schedule.border[blockIdx.x];
#pragma unroll 1
  while (step < last_step) {
    const Place at = sm80_place_of<T>(args, step, last_step);
    Sums<T> int4 = {};
    Sums<T> int8 = {};
    T::template for_each_block<T>(operands, at, shared, [&](int block, const uint8_t* stage) {
      multiply_step<T>(args, block, stage, at, int4, int8);
    });
    const bool is_whole = at.begin == 0 && at.end == args.blocks;
    if (is_whole ||
        join_parts<T>({args, schedule, at, step - at.begin, parts, counters}, int4, int8)) {
      store_tile<T>(args, at, shared, int4, int8);
    }
    step += at.end - at.begin;
    __syncthreads();  // the output has left shared memory
  }
}

/// Launches the kernel of these traits over the plan's schedule.
template <class T>
void launch_sm80(const Sm80Operands& operands, const TileSchedule& schedule, void* parts,
                 int32_t* counters, CUstream_st* stream) {
  COMET_CUDA(cudaFuncSetAttribute(sm80_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  T::kSharedBytes));
  sm80_kernel<T>
      <<<static_cast<unsigned>(schedule.num_ctas), kNumThreads, T::kSharedBytes, stream>>>(
          operands, schedule, parts, counters);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::formats::w4ax::cuda
