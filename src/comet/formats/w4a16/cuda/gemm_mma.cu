// y [tokens, n] = x [tokens, k] · Wᵀ + bias; W 4-bit with a scale per group; any card from sm_80
// on.
//
// Operands: W as blocks of 128 rows × 128 channels (gemm.h), A operand of mma.m16n8k16 (swapped
// product: rows of W are M, tokens are N), decoded in registers. x: BF16 rows, B operand by
// ldmatrix. out: BF16 or FP32.
// Grid: x = tiles of 128 rows × kTokens in the order of tile_of(), y = splits of the channels.
// CTA: 8 warps of 16 rows each; cp.async fills kStages stages of 128 channels: inputs in rows of
// 272 bytes (17 · 16: the 8 rows of an 8×8 matrix lie in different banks), then the block.
// Numerics as gemm_wgmma.cu: exact products of integers and BF16 values summed in FP32 per group,
// total += scale · sum. Splits write FP32 partial sums to the workspace [split][token][row], which
// sum_splits adds in order: results do not depend on timing.
//
// Floor: as gemm_wgmma.cu. mma.sync gives about 0.6 of wgmma's rate on Hopper, so this row is for
// other cards and a reference there.
#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/prims/cp_async.cuh"
#include "comet/device/cuda/prims/ldmatrix.cuh"
#include "comet/device/cuda/prims/mma.cuh"
#include "comet/formats/cuda/add_four.cuh"
#include "comet/formats/w4a16/cuda/gemm_tile.cuh"

namespace comet::formats::w4a16_cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kInputStride = 256 + 16;  // bytes of a token's 128 channels

struct Params {
  GemmArgs args;
  float* partials;  // [split][token][row]; nullptr: one split, straight to out
  int32_t num_splits;
  int32_t num_row_tiles;
  int32_t num_token_tiles;
};

template <int kTokens_, int kGroups_>
struct Traits {
  static constexpr int kTokens = kTokens_;
  static constexpr int kGroups = kGroups_;               // of a block
  static constexpr int kStages = kTokens <= 64 ? 3 : 2;  // at most 99 KiB: sm_86, sm_89
  static constexpr int kInputBytes = kTokens * kInputStride;
  static constexpr int kBlockBytes = kWordBytes + kBlockRows * (kGroups == 1 ? 3 : 4 * 5);
  static constexpr int kStageBytes = kInputBytes + kBlockBytes;
  static constexpr int kTileBytes = kTokens * (kBlockRows + kTilePadding) * 4;
  static constexpr int kSharedBytes = kStages * kStageBytes;
  static_assert(kStageBytes % 16 == 0 && kTileBytes <= kSharedBytes && kSharedBytes <= 99 * 1024);
};

/// Copies inputs and block of one stage; tokens and channels beyond x are 0.
template <class T>
__device__ __forceinline__ void load_stage(const Params& p, uint8_t* stage, TileIndex tile,
                                           int k_block) {
  const GemmArgs& args = p.args;
  const int chunk = static_cast<int>(threadIdx.x) % 16;  // of 8 channels
  const int channel = k_block * kBlockChannels + chunk * 8;
  for (int token = static_cast<int>(threadIdx.x) / 16; token < T::kTokens; token += kThreads / 16) {
    const int row = tile.token_tile * T::kTokens + token;
    const bool is_there = row < args.rows && channel < args.k;
    const auto* x = static_cast<const uint8_t*>(args.x) +
                    (is_there ? (row * args.x_stride + channel) * int64_t{2} : int64_t{0});
    prims::cp_async_16_or_zero(stage + token * kInputStride + chunk * 16, x, is_there);
  }
  const int block_bytes = args.blocks.block_bytes();
  const uint8_t* block =
      args.blocks.data +
      (int64_t{tile.row_tile} * args.blocks.num_k_blocks + k_block) * block_bytes;
  for (int i = static_cast<int>(threadIdx.x) * 16; i < block_bytes; i += kThreads * 16) {
    prims::cp_async_16(stage + T::kInputBytes + i, block + i);
  }
}

/// sums (+)= one A fragment · all tokens, channels 16·step of the stage.
template <class T>
__device__ __forceinline__ void multiply(float (&sums)[T::kTokens / 8][4], const uint32_t (&a)[4],
                                         const uint8_t* stage, int step) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  // Matrices of ldmatrix_x4: tokens 0…7 at channels 0 and 8, tokens 8…15 the same.
  const int token = lane / 16 * 8 + lane % 8;
  const uint8_t* from = stage + token * kInputStride + step * 32 + lane / 8 % 2 * 16;
#pragma unroll
  for (int i = 0; i < T::kTokens / 16; ++i) {
    uint32_t b[4];
    prims::ldmatrix_x4(b, from + i * 16 * kInputStride);
    prims::mma_m16n8k16_bf16(sums[2 * i], a, {b[0], b[1]});
    prims::mma_m16n8k16_bf16(sums[2 * i + 1], a, {b[2], b[3]});
  }
}

template <class T>
__device__ __forceinline__ void multiply_stage(float (&totals)[T::kTokens / 2], const Params& p,
                                               const uint8_t* stage) {
  constexpr int kStepsPerGroup = kBlockChannels / 16 / T::kGroups;
  const int unit = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint8_t* block = stage + T::kInputBytes;
  const auto* fragments = reinterpret_cast<const uint4*>(block) + unit * 32 + lane;
  const uint4 words[2] = {fragments[0], fragments[256]};  // 64 channels of 8 units: 4 KiB
#pragma unroll
  for (int group = 0; group < T::kGroups; ++group) {
    const GroupFactors factors =
        group_factors<T::kGroups>(block, p.args.blocks, group, unit * 16 + lane / 4);
    float sums[T::kTokens / 8][4] = {};
#pragma unroll
    for (int i = 0; i < kStepsPerGroup; ++i) {
      const int step = group * kStepsPerGroup + i;
      const uint4 w = words[step / 4];
      uint32_t a[4];
      dequantize(a,
                 step % 4 == 0   ? w.x
                 : step % 4 == 1 ? w.y
                 : step % 4 == 2 ? w.z
                                 : w.w,
                 factors.offsets);
      multiply<T>(sums, a, stage, step);
    }
#pragma unroll
    for (int i = 0; i < T::kTokens / 2; ++i) {
      totals[i] = __fmaf_rn(factors.scales[i % 4 / 2], sums[i / 4][i % 4], totals[i]);
    }
  }
}

/// The finished tile, in shared memory, to the output or to this split's partial sums.
template <class T>
__device__ __forceinline__ void store_tile(const Params& p, const float* sums, TileIndex tile) {
  constexpr int kColumns = kBlockRows / 4;
  const GemmArgs& args = p.args;
  StoreTarget target = store_target(args);
  if (p.partials != nullptr) {
    const int64_t split_floats = int64_t{args.rows} * p.num_row_tiles * kBlockRows;
    target = {
        p.partials + blockIdx.y * split_floats, nullptr, int64_t{p.num_row_tiles} * kBlockRows,
        p.num_row_tiles * kBlockRows,           false,   true};
  }
  const int first_token = tile.token_tile * T::kTokens;
  const int num_tokens = min(T::kTokens, args.rows - first_token);
  for (int i = static_cast<int>(threadIdx.x); i < num_tokens * kColumns; i += kThreads) {
    const float* from = sums + i / kColumns * (kBlockRows + kTilePadding) + i % kColumns * 4;
    store_four(target, first_token + i / kColumns, tile.row_tile * kBlockRows + i % kColumns * 4,
               *reinterpret_cast<const float4*>(from));
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) gemm_mma(const Params p) {
  extern __shared__ __align__(128) uint8_t stages[];
  const TileIndex tile = tile_of(static_cast<int>(blockIdx.x), p.num_row_tiles, p.num_token_tiles);
  const int split = static_cast<int>(blockIdx.y);
  const int k_begin = p.args.blocks.num_k_blocks * split / p.num_splits;
  const int k_end = p.args.blocks.num_k_blocks * (split + 1) / p.num_splits;
  for (int i = 0; i < T::kStages - 1; ++i) {
    if (k_begin + i < k_end) load_stage<T>(p, stages + i * T::kStageBytes, tile, k_begin + i);
    prims::cp_async_commit();
  }
  float totals[T::kTokens / 2] = {};
  int stage_idx = 0;
  for (int kb = k_begin; kb < k_end; ++kb) {
    prims::cp_async_wait<T::kStages - 2>();
    __syncthreads();  // the stage is there, and no one reads the one that is loaded next
    const int ahead = kb + T::kStages - 1;
    const int ahead_idx = (stage_idx + T::kStages - 1) % T::kStages;
    if (ahead < k_end) load_stage<T>(p, stages + ahead_idx * T::kStageBytes, tile, ahead);
    prims::cp_async_commit();
    multiply_stage<T>(totals, p, stages + stage_idx * T::kStageBytes);
    stage_idx = (stage_idx + 1) % T::kStages;
  }
  prims::cp_async_wait<0>();
  __syncthreads();  // stages become the tile
  auto* sums = reinterpret_cast<float*>(stages);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  fragment_to_tile<T::kTokens>(sums, kBlockRows, totals,
                               static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4, lane % 4);
  __syncthreads();
  store_tile<T>(p, sums, tile);
}

/// One thread per four rows of a token: the splits' sums in order, bias, output.
__global__ void __launch_bounds__(kThreads) sum_splits(const Params p) {
  const int64_t columns = int64_t{p.num_row_tiles} * kBlockRows / 4;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= p.args.rows * columns) return;
  const auto* parts = reinterpret_cast<const float4*>(p.partials) + i;
  float4 total = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  for (int split = 0; split < p.num_splits; ++split) {
    formats::cuda::add_four(total, parts[split * p.args.rows * columns]);
  }
  const auto row = static_cast<int>(i % columns * 4);
  if (row < p.args.blocks.n) store_four(store_target(p.args), i / columns, row, total);
}

int num_row_tiles_of(const GemmArgs& args) { return (args.blocks.n + kBlockRows - 1) / kBlockRows; }

template <class T>
void launch(Params p, cudaStream_t stream) {
  p.num_row_tiles = num_row_tiles_of(p.args);
  p.num_token_tiles = (p.args.rows + T::kTokens - 1) / T::kTokens;
  COMET_CUDA(cudaFuncSetAttribute(gemm_mma<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  T::kSharedBytes));
  const dim3 grid(static_cast<unsigned>(p.num_row_tiles * p.num_token_tiles),
                  static_cast<unsigned>(p.num_splits));
  gemm_mma<T><<<grid, kThreads, T::kSharedBytes, stream>>>(p);
  COMET_CUDA(cudaGetLastError());
  if (p.num_splits == 1) return;
  const int64_t threads = int64_t{p.args.rows} * p.num_row_tiles * kBlockRows / 4;
  sum_splits<<<static_cast<unsigned>((threads + kThreads - 1) / kThreads), kThreads, 0, stream>>>(
      p);
  COMET_CUDA(cudaGetLastError());
}

template <int kTokens>
void launch_groups(const Params& p, cudaStream_t stream) {
  if (p.args.blocks.num_groups == 1) {
    launch<Traits<kTokens, 1>>(p, stream);
  } else {
    launch<Traits<kTokens, 4>>(p, stream);
  }
}

}  // namespace

GemmPlan plan_gemm_mma(const GemmArgs& args, int num_sms) {
  constexpr int kLeastBlocks =
      4;  // of channels in a split: below, starting costs more than it saves
  GemmPlan plan;
  plan.tile_tokens = args.rows <= 16 ? 16 : args.rows <= 64 ? 64 : 128;
  const int64_t tiles =
      int64_t{num_row_tiles_of(args)} * ((args.rows + plan.tile_tokens - 1) / plan.tile_tokens);
  const int64_t wanted = tiles == 0 ? 1 : 2 * num_sms / tiles;
  const int64_t most = std::min<int64_t>(kMaxSplits, args.blocks.num_k_blocks / kLeastBlocks);
  plan.num_splits = static_cast<int32_t>(std::max<int64_t>(1, std::min(wanted, most)));
  return plan;
}

int64_t workspace_floats(const GemmArgs& args, const GemmPlan& plan) {
  if (plan.num_splits == 1) return 0;
  return int64_t{plan.num_splits} * args.rows * num_row_tiles_of(args) * kBlockRows;
}

void launch_gemm_mma(const GemmArgs& args, const GemmPlan& plan, float* workspace,
                     cudaStream_t stream) {
  if (args.rows == 0) return;
  Params p{};
  p.args = args;
  p.num_splits = plan.num_splits;
  p.partials = plan.num_splits == 1 ? nullptr : workspace;
  switch (plan.tile_tokens) {
    case 16:
      return launch_groups<16>(p, stream);
    case 64:
      return launch_groups<64>(p, stream);
    default:
      return launch_groups<128>(p, stream);
  }
}

}  // namespace comet::formats::w4a16_cuda
