#include <algorithm>

#include "comet/base/check.h"
#include "comet/formats/w4ax/cuda/sm80/gemm_sm80.h"

namespace comet::formats::w4ax::cuda {
namespace {

constexpr int32_t kRows = 128;
constexpr int32_t kSegments = 2;
constexpr int32_t kPartsPerCta = 2;  // of a tile begun before it, of a tile that it does not end
// What writing the parts of a tile and adding them costs beside steps; a guess until an A100 says.
constexpr int64_t kJoinCost = 6;
// Up to here reading weights sets the pace (docs/kernels/w4ax_sm80.md).
constexpr int32_t kMemoryBoundTokens = 64;

}  // namespace

bool gemm_sm80_suits(const GemmArgs& args) {
  return args.kind == WeightKind::kChannel && !args.block_scales;
}

int32_t sm80_tile_tokens(const GemmArgs& args) { return args.tokens <= 16 ? 16 : 64; }

TileGrid sm80_grid(const GemmArgs& args, int tile_tokens) {
  const int32_t token_tiles = (args.tokens + tile_tokens - 1) / tile_tokens;
  return {args.num_tiles * token_tiles, args.blocks, args.int4_blocks};
}

StepCosts sm80_step_costs(const GemmArgs& args) {
  if (args.tokens <= kMemoryBoundTokens) return {1, 1};
  return {1, 2};
}

Sm80Plan plan_gemm_sm80(const GemmArgs& args, const StepCosts& costs, int num_ctas) {
  const int32_t tile_tokens = sm80_tile_tokens(args);
  if (args.tokens == 0 || args.num_tiles == 0) return {tile_tokens, 0, {}};
  const TileGrid grid = sm80_grid(args, tile_tokens);
  const TileSchedule whole = deal_tiles(grid, num_ctas);
  const TileSchedule shared = share_tiles(grid, costs, num_ctas);
  const bool shares =
      longest_cost(grid, costs, shared) + kJoinCost < longest_cost(grid, costs, whole);
  return plan_gemm_sm80_with(args, tile_tokens, shares ? shared : whole);
}

Sm80Plan plan_gemm_sm80_with(const GemmArgs& args, int tile_tokens, const TileSchedule& schedule) {
  COMET_CHECK(gemm_sm80_suits(args) && (tile_tokens == 16 || tile_tokens == 64),
              "w4ax_sm80 knows channel weights without scales per block in tiles of 16 or 64 "
              "tokens, not of {}",
              tile_tokens);
  Sm80Plan plan{tile_tokens, 0, schedule};
  if (has_shared_tiles(sm80_grid(args, tile_tokens), schedule)) {
    plan.workspace_bytes =
        int64_t{4} * schedule.num_ctas * kPartsPerCta * kSegments * kRows * tile_tokens;
  }
  return plan;
}

}  // namespace comet::formats::w4ax::cuda
