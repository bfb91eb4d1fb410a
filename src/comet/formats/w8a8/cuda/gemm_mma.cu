// y[t, c] = w_scale[c] · (x_scale[t] · Σ_k w[c, k] · x[t, k]) + bias[c] with 8-bit codes, by
// mma.sync: sm_80 and later. x [rows, k] and w [n, k] row-major, out [rows, n].
// Grid: (n / 128, rows / 64), a tile of 64 tokens × 128 channels each; 4 warps of 32 × 64.
// Pipeline: 3 stages of 128 bytes of k by cp.async. Rows of a stage are 128 bytes, the 16-byte
// chunk c of row r at chunk c ^ (r % 8), so that ldmatrix meets no bank twice.
// Numerics: s8 by m16n8k32, exact int32. E4M3 by m16n8k16 in FP16: a code's bits, moved, are the
// FP16 number code · 2⁻⁸ (subnormals too), so the FP32 sums are 2⁻¹⁶ of the right ones, exactly.
// Floor: n·k bytes of weights at copy rate where rows ≤ 64 (8B gate_up on an H200: 27 µs).
#include <cuda_runtime.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/prims/cp_async.cuh"
#include "comet/device/cuda/prims/ldmatrix.cuh"
#include "comet/device/cuda/prims/mma.cuh"
#include "comet/formats/w8a8/cuda/epilogue.cuh"
#include "comet/formats/w8a8/cuda/gemm.h"

namespace comet::formats::w8a8 {
namespace {

struct Tile {
  static constexpr int kTokens = 64;
  static constexpr int kChannels = 128;
  static constexpr int kDepth = 128;  // bytes of k in a stage
  static constexpr int kStages = 3;
  static constexpr int kThreads = 128;
  static constexpr int kWarpTokens = 32;
  static constexpr int kWarpChannels = 64;
  static constexpr int kStageBytes = (kTokens + kChannels) * kDepth;
  static constexpr int kChunks = kDepth / 16;
  static_assert((kTokens + kChannels) * kChunks % kThreads == 0);
  static_assert(kTokens / kWarpTokens * (kChannels / kWarpChannels) * 32 == kThreads);
};

/// Sums of a warp's tile: token fragments of 16 × channel fragments of 8.
template <typename Sum>
using WarpSums = Sum[Tile::kWarpTokens / 16][Tile::kWarpChannels / 8][4];

__device__ __forceinline__ int swizzled(int row, int chunk) {
  return row * Tile::kDepth + ((chunk ^ (row & 7)) << 4);
}

/// Bytes k_byte … + 127 of the tile's rows of x, then of w; zero behind the matrices.
__device__ __forceinline__ void load_stage(const GemmArgs& args, uint8_t* stage, int64_t k_byte) {
  const int64_t first_token = int64_t{blockIdx.y} * Tile::kTokens;
  const int64_t first_channel = int64_t{blockIdx.x} * Tile::kChannels;
  const int64_t k_end = (int64_t{args.k} + 15) / 16 * 16;
#pragma unroll 4
  for (int i = 0; i < (Tile::kTokens + Tile::kChannels) * Tile::kChunks / Tile::kThreads; ++i) {
    const int chunk_idx = i * Tile::kThreads + static_cast<int>(threadIdx.x);
    const int row = chunk_idx / Tile::kChunks;
    const int chunk = chunk_idx % Tile::kChunks;
    const int64_t k = k_byte + chunk * 16;
    const bool is_x = row < Tile::kTokens;
    const int64_t matrix_row = is_x ? first_token + row : first_channel + row - Tile::kTokens;
    const bool is_valid = k < k_end && matrix_row < (is_x ? args.rows : args.n);
    const auto* matrix = static_cast<const uint8_t*>(is_x ? args.x : args.w);
    const int64_t offset = matrix_row * (is_x ? args.x_stride : args.w_stride) + k;
    prims::cp_async_16_or_zero(stage + swizzled(row, chunk), matrix + (is_valid ? offset : 0),
                               is_valid);
  }
}

/// Bytes 1 and 3 of a word of E4M3 codes as two FP16 numbers 2⁻⁸ of theirs: sign stays, exponent
/// and mantissa move one bit down.
__device__ __forceinline__ uint32_t half_pair(uint32_t word) {
  return (word & 0x80008000U) | ((word & 0x7F007F00U) >> 1);
}

__device__ __forceinline__ void multiply(int32_t (&sums)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2]) {
  prims::mma_m16n8k32_s8(sums, a, b);
}

/// Any order of k will do, if a and b have the same: one product of the words of k 0…15, one of
/// those of k 16…31, each with bytes 1, 3 as the first half of k and bytes 0, 2 as the second.
__device__ __forceinline__ void multiply(float (&sums)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint32_t a0 = a[half * 2];
    const uint32_t a1 = a[half * 2 + 1];
    const uint32_t fragment_a[4] = {half_pair(a0), half_pair(a1), half_pair(a0 << 8),
                                    half_pair(a1 << 8)};
    const uint32_t fragment_b[2] = {half_pair(b[half]), half_pair(b[half] << 8)};
    prims::mma_m16n8k16_f16(sums, fragment_a, fragment_b);
  }
}

template <typename Sum>
__device__ __forceinline__ void multiply_stage(const uint8_t* stage, WarpSums<Sum>& sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int token = warp % 2 * Tile::kWarpTokens;
  const int channel = warp / 2 * Tile::kWarpChannels;
  const uint8_t* w_stage = stage + Tile::kTokens * Tile::kDepth;
#pragma unroll 1
  for (int step = 0; step < Tile::kDepth / 32; ++step) {
    uint32_t a[Tile::kWarpTokens / 16][4];
#pragma unroll
    for (int i = 0; i < Tile::kWarpTokens / 16; ++i) {
      prims::ldmatrix_x4(a[i], stage + swizzled(token + i * 16 + lane % 16, step * 2 + lane / 16));
    }
#pragma unroll
    for (int j = 0; j < Tile::kWarpChannels / 16; ++j) {
      uint32_t b[4];  // channels 0…7: k 0…15 and 16…31; then channels 8…15
      prims::ldmatrix_x4(b, w_stage + swizzled(channel + j * 16 + lane % 8 + lane / 16 * 8,
                                               step * 2 + lane / 8 % 2));
      const uint32_t low[2] = {b[0], b[1]};
      const uint32_t high[2] = {b[2], b[3]};
#pragma unroll
      for (int i = 0; i < Tile::kWarpTokens / 16; ++i) {
        multiply(sums[i][j * 2], a[i], low);
        multiply(sums[i][j * 2 + 1], a[i], high);
      }
    }
  }
}

__device__ __forceinline__ float true_sum(int32_t sum) { return __int2float_rn(sum); }
__device__ __forceinline__ float true_sum(float sum) { return sum * 65536.0F; }

template <typename Sum>
__device__ __forceinline__ void store_tile(const GemmArgs& args, const WarpSums<Sum>& sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int first_token =
      static_cast<int>(blockIdx.y) * Tile::kTokens + warp % 2 * Tile::kWarpTokens + lane / 4;
  const int first_channel = static_cast<int>(blockIdx.x) * Tile::kChannels +
                            warp / 2 * Tile::kWarpChannels + lane % 4 * 2;
  const bool has_bias = args.bias != nullptr;
  const bool in_pairs = args.out_stride % 2 == 0;
#pragma unroll
  for (int j = 0; j < Tile::kWarpChannels / 8; ++j) {
    const int channel = first_channel + j * 8;
    const bool has_second = channel + 1 < args.n;
    if (channel >= args.n) continue;
    const float w0 = args.w_scale[channel];
    const float w1 = has_second ? args.w_scale[channel + 1] : 0.0F;
    const float b0 = has_bias ? args.bias[channel] : 0.0F;
    const float b1 = has_bias && has_second ? args.bias[channel + 1] : 0.0F;
#pragma unroll
    for (int i = 0; i < Tile::kWarpTokens / 8; ++i) {
      const int token = first_token + i * 8;
      if (token >= args.rows) continue;
      const float x_scale = args.x_scale[int64_t{token} * args.x_scale_stride];
      const auto& sum = sums[i / 2][j];
      const float y0 = scaled(true_sum(sum[i % 2 * 2]), x_scale, w0, b0, has_bias);
      const float y1 = scaled(true_sum(sum[i % 2 * 2 + 1]), x_scale, w1, b1, has_bias);
      const int64_t element = token * args.out_stride + channel;
      if (has_second && in_pairs) {
        store_pair(args, element, y0, y1);
      } else {
        store_one(args, element, y0);
        if (has_second) store_one(args, element + 1, y1);
      }
    }
  }
}

template <typename Sum>
__global__ void __launch_bounds__(Tile::kThreads, 3) gemm_mma(const GemmArgs args) {
  extern __shared__ __align__(128) uint8_t stages[];
  const int num_steps = (args.k + Tile::kDepth - 1) / Tile::kDepth;
  for (int step = 0; step < Tile::kStages - 1; ++step) {
    if (step < num_steps) {
      load_stage(args, stages + step * Tile::kStageBytes, int64_t{step} * Tile::kDepth);
    }
    prims::cp_async_commit();
  }
  WarpSums<Sum> sums = {};
  for (int step = 0; step < num_steps; ++step) {
    prims::cp_async_wait<Tile::kStages - 2>();
    __syncthreads();  // the stage is there, and everyone is done with the one before
    const int next = step + Tile::kStages - 1;
    if (next < num_steps) {
      load_stage(args, stages + next % Tile::kStages * Tile::kStageBytes,
                 int64_t{next} * Tile::kDepth);
    }
    prims::cp_async_commit();
    multiply_stage<Sum>(stages + step % Tile::kStages * Tile::kStageBytes, sums);
  }
  store_tile<Sum>(args, sums);
}

template <typename Sum>
void launch(const GemmArgs& args, CUstream_st* stream) {
  constexpr int kSharedBytes = Tile::kStages * Tile::kStageBytes;
  COMET_CUDA(cudaFuncSetAttribute(gemm_mma<Sum>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kSharedBytes));
  const dim3 grid(static_cast<unsigned>((args.n + Tile::kChannels - 1) / Tile::kChannels),
                  static_cast<unsigned>((args.rows + Tile::kTokens - 1) / Tile::kTokens));
  gemm_mma<Sum><<<grid, Tile::kThreads, kSharedBytes, stream>>>(args);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace

void launch_gemm_mma(const GemmArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  if (args.is_e4m3) {
    launch<float>(args, stream);
  } else {
    launch<int32_t>(args, stream);
  }
}

}  // namespace comet::formats::w8a8
