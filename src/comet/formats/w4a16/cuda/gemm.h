// Launch functions of w4a16's CUDA kernels, and how they lay weights: plain structs, because .cu
// files include this. Called by backend_cuda.cpp and the tests. Pointers are device pointers; each
// function only launches on `stream` and throws CudaError when that fails.
//
// Weights are blocks of 128 rows × 128 channels (rows padded to 256, channels to 128), the blocks
// of 128 rows one after the other along the channels:
//   8,192 bytes of nibbles:  [2 × 64 channels][8 units of 16 rows][32 lanes][4 words]
//   scales [groups][128]: one group of 128 channels, BF16 or FP16; or four of 32, FP32 (which also
//   serve groups of 64 and scales that are FP32)
//   zero points [groups][128] of 1 byte, where the weight has some (else 8)
// Word j of a lane is its fragment of channels 16·j … 16·j + 15 (prims/mma.cuh): with group =
// lane / 4, quad = lane % 4, nibble s + 4·h is row group + 8·(s % 2) of the unit, channel
// 2·quad + h + 8·(s / 2). So (word >> 4·s) & 0x000F000F is register s of an m16n8k16 A fragment.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "comet/formats/w4a16/cuda/gemm_choice.h"

namespace comet::formats::w4a16_cuda {

constexpr int kBlockRows = 128;
constexpr int kBlockChannels = 128;
constexpr int kWordBytes = kBlockRows * kBlockChannels / 2;
constexpr int kMaxBlockBytes = kWordBytes + kBlockRows * 4 * 5;  // four groups, zero points
constexpr int kRowPadding = 256;  // rows are padded to a multiple of it: two blocks
constexpr int kShortGroup = 32;   // channels of a scale where they are not 128
constexpr int kPlainZero = 8;     // the nibble that stands for 0 without zero points
constexpr int kMaxSplits = 8;     // of K: CTAs of a portable cluster
constexpr uint32_t kPlainWord = 0x88888888U;

enum class ScaleType : int32_t { kBF16, kF16, kF32 };

/// A weight in blocks.
struct Blocks {
  const uint8_t* data = nullptr;
  int32_t n = 0;
  int32_t num_k_blocks = 0;
  int32_t num_groups = 1;  // of a block: 1 or 4
  bool is_f16 = false;     // num_groups 1: scales are FP16, else BF16
  bool has_zeros = false;

  [[nodiscard]] __host__ __device__ int32_t scale_bytes() const { return num_groups == 1 ? 2 : 4; }
  [[nodiscard]] __host__ __device__ int32_t block_bytes() const {
    return kWordBytes + kBlockRows * num_groups * (scale_bytes() + (has_zeros ? 1 : 0));
  }
  [[nodiscard]] int64_t num_bytes() const {
    const int64_t row_blocks = (int64_t{n} + kRowPadding - 1) / kRowPadding * 2;
    return row_blocks * num_k_blocks * block_bytes();
  }
};

/// A weight as compressed-tensors lays it, all parts one below the other.
struct PackedRows {
  const uint32_t* words = nullptr;  // [n, k_padded / 8]; nibble i of a word is channel 8j + i
  const void* scales = nullptr;     // [n, k_padded / group]
  const uint8_t* zeros = nullptr;   // the same; nullptr: all 8
  ScaleType scale_type = ScaleType::kBF16;
  int32_t group = 128;  // channels of a scale: 32, 64 or 128
};

/// How the blocks of such a weight are laid; data stays null.
inline Blocks blocks_of(const PackedRows& rows, int32_t n, int32_t k_padded) {
  Blocks blocks;
  blocks.n = n;
  blocks.num_k_blocks = k_padded / kBlockChannels;
  const bool is_whole = rows.group == kBlockChannels && rows.scale_type != ScaleType::kF32;
  blocks.num_groups = is_whole ? 1 : kBlockChannels / kShortGroup;
  blocks.is_f16 = rows.scale_type == ScaleType::kF16;
  blocks.has_zeros = rows.zeros != nullptr;
  return blocks;
}

/// Fills blocks.data (blocks.num_bytes(), writable); the rest as blocks_of() made it.
void launch_repack(const PackedRows& rows, const Blocks& blocks, cudaStream_t stream);

/// y [rows, n] = x · Wᵀ + bias.
struct GemmArgs {
  Blocks blocks;
  const void* x = nullptr;  // BF16 [rows, k], rows 16-byte aligned
  int64_t x_stride = 0;     // elements, a multiple of 8
  int32_t k = 0;            // channels of a row of x; those up to k_padded count as 0
  int32_t rows = 0;
  const float* bias = nullptr;  // [n] or nullptr
  void* out = nullptr;
  int64_t out_stride = 0;
  bool out_is_bf16 = true;
  // What plans of tall tiles need beside: wgmma_workspace_floats(), and a word a CTA that is 0.
  void* workspace = nullptr;
  uint32_t* arrivals = nullptr;
};

/// mma.sync, any card from sm_80 on. With num_splits > 1 it needs `workspace`.
GemmPlan plan_gemm_mma(const GemmArgs& args, int num_sms);
int64_t workspace_floats(const GemmArgs& args, const GemmPlan& plan);
void launch_gemm_mma(const GemmArgs& args, const GemmPlan& plan, float* workspace,
                     cudaStream_t stream);

/// Whether the wgmma kernel multiplies BF16(scale · code), as programs do that decompress weights
/// to BF16; else, and by mma.sync always, the product of scale and code is exact.
inline bool multiplies_scaled(const Blocks& blocks) {
  return blocks.num_groups == 1 && !blocks.is_f16 && !blocks.has_zeros;
}

/// wgmma, sm_90a only. `x_map`: a CUtensorMap of x as 2-d BF16 [rows, k], box tile_tokens × 64,
/// 128-byte swizzle.
GemmPlan plan_gemm_wgmma(const GemmArgs& args, int num_sms);
/// Parts of tall tiles: two of each CTA.
inline int64_t wgmma_workspace_floats(const GemmPlan& plan) {
  if (plan.shape != TileShape::kTall) return 0;
  return int64_t{2} * plan.num_splits * kRowPadding * plan.tile_tokens;
}
void launch_gemm_wgmma(const GemmArgs& args, const GemmPlan& plan, const void* x_map,
                       cudaStream_t stream);

/// The same of plans of tall tiles; launch_gemm_wgmma() calls it.
void launch_gemm_wgmma_tall(const GemmArgs& args, const GemmPlan& plan, const void* x_map,
                            cudaStream_t stream);

/// out [rows, out_stride] = BF16 of x's channels in this order; channels from k on are 0.
struct GatherArgs {
  const void* x = nullptr;  // BF16 [rows, x_stride]
  int64_t x_stride = 0;
  const int32_t* order = nullptr;  // [k], or nullptr: as they are
  int32_t k = 0;
  int32_t rows = 0;
  void* out = nullptr;
  int64_t out_stride = 0;
};
void launch_gather(const GatherArgs& args, cudaStream_t stream);

}  // namespace comet::formats::w4a16_cuda
