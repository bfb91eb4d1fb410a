// y = x · Wᵀ of w4ax by mma.m16n8k32 on signed bytes: y[token, row] with weights as the A operand.
//
// Operands: packed [tiles, blocks, 8192] (tile128: 16 bytes of a lane are the A fragments of two
//   k32 steps, low and high nibbles), codes s8 [tokens, blocks · 128], scales as in gemm_mma.h.
// Grid: x = tile of 128 rows × tile of kTokens tokens (tokens first: neighbours share weights in
//   L2), y = split of K. A step is one block of 128 channels: 8 KiB of weights, kTokens · 128 bytes
//   of codes, kNumStages steps under way by cp.async.
// Start: the launch may overlap the end of the kernel before, which made the codes; weights of the
//   first stages are on their way by then.
// Roles: 8 warps; each has kUnits × 16 rows and kWarpTokens tokens.
// Numerics: int32 sums, exact; channel weights go in as 16·q, and the sum is shifted back;
//   progressive ones as u·g + o. Segments keep int32 to the end; S1 and group promote each block
//   into a chain of 8. Split parts leave int32 sums (or whole chains) in the workspace; the last
//   CTA of a tile adds them in a fixed order.
// Floor: packed bytes / copy rate, or tokens · rows · k / (INT8 mma rate: 636 T multiply-adds/s on
//   an H100); LLaMA-3 8B gate_up: 14 µs up to 64 tokens, 190 µs at 1,024.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "comet/device/cuda/prims/cp_async.cuh"
#include "comet/device/cuda/prims/ldmatrix.cuh"
#include "comet/device/cuda/prims/mma.cuh"
#include "comet/formats/w4ax/cuda/gemm_mma.h"
#include "comet/formats/w4ax/cuda/nibbles.cuh"

namespace comet::formats::w4ax::cuda {

constexpr int kNumThreads = 256;
constexpr int kChainBlocks = 8;
constexpr int kRowBytes = 256;  // of a block's group parameters: 128 F16, or 128 g and 128 o

template <WeightKind kWeightKind, bool kHasChains, int kTileTokens>
struct Traits {
  static constexpr WeightKind kKind = kWeightKind;
  static constexpr bool kChains = kHasChains;  // scales per block: S1 or group
  static constexpr int kTokens = kTileTokens;
  static constexpr int kUnits = kTokens >= 32 ? 2 : 1;  // of 16 rows, of a warp
  static constexpr int kRowWarps = 8 / kUnits;
  static constexpr int kWarpTokens = kTokens * kRowWarps / 8;
  static constexpr int kColumns = kWarpTokens / 8;     // mma tiles of 8 tokens, of a warp
  static constexpr int kSums = kUnits * kColumns * 4;  // of a thread
  // Two segments need a second set of sums.
  static constexpr bool kTwoSegments = !kChains && kTokens <= 64;
  static constexpr bool kHasRowParams = kKind != WeightKind::kChannel;

  static constexpr int kCodesAt = kTileBytes;
  static constexpr int kRowsAt = kCodesAt + kTokens * kBlockChannels;
  static constexpr int kScalesAt = kRowsAt + (kHasRowParams ? kRowBytes : 0);
  static constexpr int kStageBytes = kScalesAt + (kChains ? kTokens * 4 : 0);
  static constexpr int kNumStages = kTokens <= 32 ? 8 : (kTokens == 64 ? 6 : 4);
  static constexpr int kSharedBytes = kNumStages * kStageBytes;
  // What registers admit without spilling.
  static constexpr int kMinCtas =
      (kChains && kTokens == 64) || (kKind == WeightKind::kChannel && kTokens == 128) ? 1 : 2;

  // The output tile in shared memory: rows of one token, padded against bank conflicts.
  static constexpr int kOutPitchF32 = kTileRows + 4;
  static constexpr int kOutPitchBf16 = kTileRows + 8;

  static_assert(kStageBytes % 16 == 0 && kSharedBytes <= 99 * 1024);
  static_assert(kTokens * kOutPitchF32 * 4 <= kSharedBytes);
  static_assert(kSums * kNumThreads == kTileRows * kTokens);
};

/// Where a CTA and a thread stand.
struct Place {
  int tile, first_token, warp_row, warp_token, lane;
  int begin, end;  // blocks
};

/// Blocks of one split; chains stay whole.
template <bool kChains>
__device__ __forceinline__ void split_range(int blocks, int split, int num_splits, int& begin,
                                            int& end) {
  constexpr int kUnit = kChains ? kChainBlocks : 1;
  const int units = (blocks + kUnit - 1) / kUnit;
  begin = static_cast<int>(static_cast<int64_t>(units) * split / num_splits) * kUnit;
  end = static_cast<int>(static_cast<int64_t>(units) * (split + 1) / num_splits) * kUnit;
  if (end > blocks) end = blocks;
}

/// Starts the copies of one block after another; what a thread copies moves on by constant strides.
template <class T>
struct BlockLoader {
  static constexpr int kCodeChunks = T::kTokens * 8;  // of 16 bytes
  static constexpr int kTokenStep = kNumThreads / 8;

  const uint8_t* weights;
  const int8_t* codes;  // this thread's first token
  const uint8_t* rows;  // group parameters
  const float* scales;  // S1, group
  int code_step;        // bytes between this thread's tokens
  int row_step;         // bytes of group parameters between blocks
  int num_tokens;       // from this thread's first token on
  int codes_at;         // in a stage
  int block;
  int int4_blocks;  // the other scale from here on; −1 for S1

  __device__ BlockLoader(const GemmArgs& args, const Place& at) {
    const int thread = static_cast<int>(threadIdx.x);
    weights = args.packed + (static_cast<int64_t>(at.tile) * args.blocks + at.begin) * kTileBytes +
              thread * 16;
    const int token = thread / 8;
    const int chunk = thread % 8;
    const int64_t k = static_cast<int64_t>(args.blocks) * kBlockChannels;
    num_tokens = args.tokens - at.first_token - token;
    codes = args.codes + at.begin * kBlockChannels + chunk * 16;
    if (num_tokens > 0) codes += (at.first_token + token) * k;
    code_step = args.blocks * kBlockChannels * kTokenStep;
    codes_at = T::kCodesAt + token * kBlockChannels + (chunk ^ (token & 7)) * 16;
    if constexpr (T::kHasRowParams) start_rows(args, at, thread);
    if constexpr (T::kChains) start_scales(args, at, thread);
  }

  __device__ void start_rows(const GemmArgs& args, const Place& at, int thread) {
    const int64_t row = static_cast<int64_t>(at.begin) * args.num_tiles * kTileRows +
                        static_cast<int64_t>(at.tile) * kTileRows;
    if constexpr (T::kKind == WeightKind::kGroup) {
      rows = reinterpret_cast<const uint8_t*>(args.group_scale + row) + thread * 16;
      row_step = args.num_tiles * kTileRows * 2;
    } else {
      rows = thread < 8 ? args.multiplier + row + thread * 16
                        : reinterpret_cast<const uint8_t*>(args.offset) + row + (thread - 8) * 16;
      row_step = args.num_tiles * kTileRows;
    }
  }

  __device__ void start_scales(const GemmArgs& args, const Place& at, int thread) {
    block = at.begin;
    int4_blocks = args.block_scales ? -1 : args.int4_blocks;
    const int token = at.first_token + (thread < T::kTokens ? thread : 0);
    scales = token < args.tokens ? args.x_scales : nullptr;
    if (scales == nullptr) return;
    scales += static_cast<int64_t>(token) * (args.block_scales ? args.blocks : 2);
    if (args.block_scales) {
      scales += at.begin;
    } else if (at.begin > args.int4_blocks) {
      ++scales;  // the border lies before this range
    }
  }

  /// The next block's weights into a stage.
  __device__ void load_weights(uint8_t* stage) {
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int i = 0; i < kTileBytes; i += kNumThreads * 16) {
      prims::cp_async_16(stage + i + thread * 16, weights + i);
    }
    weights += kTileBytes;
    if constexpr (T::kHasRowParams) {
      if (thread < kRowBytes / 16) prims::cp_async_16(stage + T::kRowsAt + thread * 16, rows);
      rows += row_step;
    }
  }

  /// The next block's codes, and scales of it, into a stage.
  __device__ void load_inputs(uint8_t* stage) {
    const int thread = static_cast<int>(threadIdx.x);
    if (kCodeChunks >= kNumThreads || thread < kCodeChunks) {
#pragma unroll
      for (int i = 0; i < (kCodeChunks + kNumThreads - 1) / kNumThreads; ++i) {
        const bool is_valid = i * kTokenStep < num_tokens;
        prims::cp_async_16_or_zero(stage + codes_at + i * kTokenStep * kBlockChannels,
                                   codes + (is_valid ? i * code_step : 0), is_valid);
      }
    }
    codes += kBlockChannels;
    if constexpr (T::kChains) {
      if (thread < T::kTokens && scales != nullptr) {
        if (block == int4_blocks) ++scales;
        prims::cp_async_4(stage + T::kScalesAt + thread * 4, scales);
        if (int4_blocks < 0) ++scales;
      }
      ++block;
    }
  }
};

/// sums += one block: a step of 128 channels.
template <class T>
__device__ __forceinline__ void multiply_block(const uint8_t* stage, const Place& at,
                                               int32_t (&sums)[T::kUnits][T::kColumns][4]) {
  Levels levels[T::kUnits];
  if constexpr (T::kKind == WeightKind::kProgressive) {
#pragma unroll
    for (int u = 0; u < T::kUnits; ++u) {
      levels[u] = load_levels(stage + T::kRowsAt, at.warp_row + u * 16, at.lane / 4);
    }
  }
  // ldmatrix: lane l names row l % 8 of the 16-byte chunk l / 8 of a half.
  const int row = at.warp_token + at.lane % 8;
  const uint8_t* codes = stage + T::kCodesAt + row * kBlockChannels;
#pragma unroll 1  // both halves at once would not fit in 128 registers
  for (int half = 0; half < 2; ++half) {
    uint32_t low[T::kUnits][4];
    uint32_t high[T::kUnits][4];
#pragma unroll
    for (int u = 0; u < T::kUnits; ++u) {
      const uint4 raw = *reinterpret_cast<const uint4*>(
          stage + half * kHalfBytes + (at.warp_row / 16 + u) * kUnitBytes + at.lane * 16);
      expand<T::kKind>(raw, levels[u], low[u], high[u]);
    }
    const int chunk = (half * 4 + at.lane / 8) ^ (at.lane % 8);
#pragma unroll
    for (int n = 0; n < T::kColumns; ++n) {
      uint32_t b[4];
      prims::ldmatrix_x4(b, codes + n * 8 * kBlockChannels + chunk * 16);
      const uint32_t b_low[2] = {b[0], b[1]};
      const uint32_t b_high[2] = {b[2], b[3]};
#pragma unroll
      for (int u = 0; u < T::kUnits; ++u) {
        prims::mma_m16n8k32_s8(sums[u][n], low[u], b_low);
      }
#pragma unroll
      for (int u = 0; u < T::kUnits; ++u) prims::mma_m16n8k32_s8(sums[u][n], high[u], b_high);
    }
  }
}

/// I of a sum: 16·q was multiplied unless the weights are progressive.
template <class T>
__device__ __forceinline__ float sum_to_float(int32_t sum) {
  return __int2float_rn(T::kKind == WeightKind::kProgressive ? sum : sum >> 4);
}

/// chains = fma(s_b, float(I_b), chains); sums = 0.
template <class T>
__device__ __forceinline__ void promote_block(const uint8_t* stage, const Place& at,
                                              int32_t (&sums)[T::kUnits][T::kColumns][4],
                                              float (&chains)[T::kUnits][T::kColumns][4]) {
  float row_scale[T::kUnits][2];
  if constexpr (T::kKind == WeightKind::kGroup) {
    const auto* scales = reinterpret_cast<const __half*>(stage + T::kRowsAt);
#pragma unroll
    for (int u = 0; u < T::kUnits; ++u) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        row_scale[u][i] = __half2float(scales[at.warp_row + u * 16 + at.lane / 4 + 8 * i]);
      }
    }
  }
#pragma unroll
  for (int n = 0; n < T::kColumns; ++n) {
    const int token = at.warp_token + n * 8 + at.lane % 4 * 2;
    const float2 pair = *reinterpret_cast<const float2*>(stage + T::kScalesAt + token * 4);
    const float x_scale[2] = {pair.x, pair.y};
#pragma unroll
    for (int u = 0; u < T::kUnits; ++u) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float scale = x_scale[j % 2];
        if constexpr (T::kKind == WeightKind::kGroup) {
          scale = __fmul_rn(scale, row_scale[u][j / 2]);
        }
        chains[u][n][j] = __fmaf_rn(scale, sum_to_float<T>(sums[u][n][j]), chains[u][n][j]);
        sums[u][n][j] = 0;
      }
    }
  }
}

// ---- Workspace: per slot and tile, a thread's words lie 16 bytes at a time, threads side by side.

template <class T, typename Word>
__device__ __forceinline__ int4* slot_of(void* workspace, int slot) {
  static_assert(sizeof(Word) == 4);
  const int64_t words =
      (static_cast<int64_t>(slot) * gridDim.x + blockIdx.x) * (kTileRows * T::kTokens);
  return reinterpret_cast<int4*>(static_cast<Word*>(workspace) + words) + threadIdx.x;
}

template <class T, typename Word>
__device__ __forceinline__ void write_slot(void* workspace, int slot,
                                           const Word (&words)[T::kUnits][T::kColumns][4]) {
  int4* to = slot_of<T, Word>(workspace, slot);
#pragma unroll
  for (int i = 0; i < T::kSums / 4; ++i) {
    const Word(&w)[4] = words[i / T::kColumns][i % T::kColumns];
    int4 packed;
    if constexpr (std::is_same_v<Word, float>) {
      packed = make_int4(__float_as_int(w[0]), __float_as_int(w[1]), __float_as_int(w[2]),
                         __float_as_int(w[3]));
    } else {
      packed = make_int4(static_cast<int>(w[0]), static_cast<int>(w[1]), static_cast<int>(w[2]),
                         static_cast<int>(w[3]));
    }
    __stcg(to + i * kNumThreads, packed);
  }
}

/// words += a slot.
template <class T, typename Word>
__device__ __forceinline__ void add_slot(void* workspace, int slot,
                                         Word (&words)[T::kUnits][T::kColumns][4]) {
  const int4* from = slot_of<T, Word>(workspace, slot);
#pragma unroll
  for (int i = 0; i < T::kSums / 4; ++i) {
    const int4 packed = __ldcg(from + i * kNumThreads);
    Word(&w)[4] = words[i / T::kColumns][i % T::kColumns];
    const int bits[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if constexpr (std::is_same_v<Word, float>) {
        w[j] = __fadd_rn(w[j], __int_as_float(bits[j]));
      } else {
        w[j] += bits[j];
      }
    }
  }
}

/// Counts this CTA in; true in the last one of its tile, which then sees what all have written.
__device__ __forceinline__ bool is_last_of_tile(int32_t* counters) {
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(counters + blockIdx.x, 1) == static_cast<int>(gridDim.y) - 1;
    if (is_last) counters[blockIdx.x] = 0;
  }
  __syncthreads();
  __threadfence();
  return is_last;
}

// ---- Output

/// y of one sum, before the row's scale: x_scales of the token's segments.
template <class T>
__device__ __forceinline__ float segments_value(const GemmArgs& args, const float2& scales,
                                                int32_t low, int32_t sum) {
  if (args.int4_blocks == 0) return __fmul_rn(scales.y, sum_to_float<T>(sum));
  if (!T::kTwoSegments || args.int4_blocks == args.blocks) {
    return __fmul_rn(scales.x, sum_to_float<T>(sum));
  }
  return __fmaf_rn(scales.y, sum_to_float<T>(sum), __fmul_rn(scales.x, sum_to_float<T>(low)));
}

/// Adds the row's scale and bias, and puts values into shared memory, token by token.
template <class T>
struct OutputTileWriter {
  const GemmArgs& args;
  const Place& at;
  OutputTile rows;
  uint8_t* shared;

  __device__ void put(int row, int token, float value) const {
    if (T::kKind != WeightKind::kGroup) {
      value = __fmul_rn(args.channel_scale[at.tile * kTileRows + row], value);
    }
    if (args.bias != nullptr && row < rows.num_rows) {
      value = __fadd_rn(value, args.bias[rows.column + row]);
    }
    if (args.out_is_bf16) {
      reinterpret_cast<__nv_bfloat16*>(shared)[token * T::kOutPitchBf16 + row] =
          __float2bfloat16_rn(value);
    } else {
      reinterpret_cast<float*>(shared)[token * T::kOutPitchF32 + row] = value;
    }
  }

  /// Shared → global, 16 bytes at a time where addresses allow.
  template <typename Value>
  __device__ void copy_out(int pitch) const {
    constexpr int kValues = 16 / static_cast<int>(sizeof(Value));
    constexpr int kChunks = kTileRows / kValues;
    auto* out = static_cast<Value*>(args.out) + at.first_token * args.out_stride + rows.column;
    const auto* tile = reinterpret_cast<const Value*>(shared);
    const bool is_aligned =
        reinterpret_cast<uintptr_t>(out) % 16 == 0 && args.out_stride % kValues == 0;
    for (int i = static_cast<int>(threadIdx.x); i < T::kTokens * kChunks; i += kNumThreads) {
      const int token = i / kChunks;
      const int row = i % kChunks * kValues;
      if (at.first_token + token >= args.tokens || row >= rows.num_rows) continue;
      Value* to = out + token * args.out_stride + row;
      const Value* from = tile + token * pitch + row;
      if (is_aligned && row + kValues <= rows.num_rows) {
        *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
      } else {
        for (int j = 0; j < kValues && row + j < rows.num_rows; ++j) to[j] = from[j];
      }
    }
  }

  __device__ void finish() const {
    __syncthreads();
    if (args.out_is_bf16) {
      copy_out<__nv_bfloat16>(T::kOutPitchBf16);
    } else {
      copy_out<float>(T::kOutPitchF32);
    }
  }
};

}  // namespace comet::formats::w4ax::cuda
