// The wide tiles of the w4ax product on sm_90a, for more than 64 tokens: which there are, launch.
// Results as of gemm_sm90.h. Callers: plans, run_gemm_sm90(), tests.
#pragma once

#include "comet/formats/w4ax/cuda/gemm_sm90.h"

namespace comet::formats::w4ax::cuda {

/// INT8 blocks behind an INT4 segment that tiles of 256 rows or 256 tokens take: no more, no fewer;
/// the stage is held until the tile is stored.
constexpr int kSm90MostHeld = 1;

/// Whether there is such a tile for this product.
constexpr bool sm90_wide_suits(const GemmArgs& args, int tile_rows, int tile_tokens) {
  const bool has_two = args.int4_blocks > 0 && args.int4_blocks < args.blocks;
  if (tile_rows == 256 ? tile_tokens == 128 : tile_rows == 128 && tile_tokens == 256) {
    return !has_two || args.blocks - args.int4_blocks <= kSm90MostHeld;
  }
  if (tile_rows != 128) return false;
  return tile_tokens == 64 || tile_tokens == 128 || (tile_tokens == 96 && !has_two);
}

/// `plan`: is_wide, all tiles whole. `x_map` as of launch_gemm_sm90(). Throws CudaError.
void launch_gemm_sm90_wide(const GemmArgs& args, const Sm90Plan& plan, const void* x_map,
                           CUstream_st* stream);

}  // namespace comet::formats::w4ax::cuda
