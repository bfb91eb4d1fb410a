#include <algorithm>

#include "comet/base/check.h"
#include "comet/formats/w4ax/cuda/sm80/gemm_sm80.h"

namespace comet::formats::w4ax::cuda {
namespace {

constexpr int32_t kRows = 128;
constexpr int32_t kSegments = 2;
constexpr int32_t kPartsPerCta = 2;   // of a tile begun before it, of a tile that it does not end
constexpr int64_t kPairedBytes = 64;  // of a token's INT4 block
// Up to here reading weights sets the pace (docs/kernels/w4ax_sm80.md).
constexpr int32_t kMemoryBoundTokens = 64;

/// What writing the parts of a tile and adding them costs beside steps, in INT4 steps: a model
/// (docs/kernels/w4ax_sm80.md) until an A100 says.
int64_t join_cost(int tile_tokens) {
  if (tile_tokens == 16) return 2;
  return tile_tokens == 64 ? 4 : 10;
}

}  // namespace

bool gemm_sm80_suits(const GemmArgs& args) {
  return args.kind == WeightKind::kChannel && !args.block_scales;
}

int32_t sm80_tile_tokens(const GemmArgs& args) {
  if (args.tokens <= 16) return 16;
  return args.tokens <= 64 ? 64 : 128;
}

int sm80_num_ctas(int tile_tokens, int sm, int num_sms) {
  const bool fits_once = tile_tokens == 128 || sm == 86 || sm == 89;  // registers, shared memory
  return fits_once ? num_sms : 2 * num_sms;
}

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
  if (args.tokens == 0 || args.num_tiles == 0) return {tile_tokens, 0, 0, {}};
  const TileGrid grid = sm80_grid(args, tile_tokens);
  const TileSchedule whole = deal_tiles(grid, num_ctas);
  const TileSchedule shared = share_tiles(grid, costs, num_ctas);
  const int64_t shared_cost = longest_cost(grid, costs, shared) + join_cost(tile_tokens);
  const bool shares = shared_cost < longest_cost(grid, costs, whole);
  return plan_gemm_sm80_with(args, tile_tokens, shares ? shared : whole);
}

Sm80Plan plan_gemm_sm80_with(const GemmArgs& args, int tile_tokens, const TileSchedule& schedule) {
  const bool is_known = tile_tokens == 16 || tile_tokens == 64 || tile_tokens == 128;
  COMET_CHECK(gemm_sm80_suits(args) && is_known,
              "w4ax_sm80 knows channel weights without scales per block in tiles of 16, 64 or 128 "
              "tokens, not of {}",
              tile_tokens);
  Sm80Plan plan{tile_tokens, 0, 0, schedule};
  if (has_shared_tiles(sm80_grid(args, tile_tokens), schedule)) {
    plan.parts_bytes =
        int64_t{4} * schedule.num_ctas * kPartsPerCta * kSegments * kRows * tile_tokens;
  }
  plan.workspace_bytes = plan.parts_bytes;
  if (tile_tokens == 128) {
    plan.workspace_bytes += int64_t{args.tokens} * args.int4_blocks * kPairedBytes;
  }
  return plan;
}

}  // namespace comet::formats::w4ax::cuda
