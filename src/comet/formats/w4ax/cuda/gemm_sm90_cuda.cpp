// The host's half of gemm_sm90: how a product is cut, and the map of its codes.
#include <algorithm>

#include "comet/device/cuda/tensor_map.h"
#include "comet/formats/w4ax/cuda/gemm_sm90.h"

namespace comet::formats::w4ax::cuda {
namespace {

constexpr int64_t kTileRows = 128;
constexpr int64_t kSplitBlocks = 5;  // what parts of tiles cost, in blocks' time
constexpr int64_t kLeastBlocks = 4;  // of a CTA

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool has_two_segments(const GemmArgs& args) {
  return args.int4_blocks > 0 && args.int4_blocks < args.blocks;
}

int64_t tiles_of(const GemmArgs& args, int64_t rows, int64_t tokens) {
  return divide_up(args.num_tiles, rows / kTileRows) * divide_up(args.tokens, tokens);
}

}  // namespace

Sm90Plan cut_gemm_sm90(const GemmArgs& args, Sm90Plan plan, bool is_whole) {
  const int64_t tiles = tiles_of(args, plan.tile_rows, plan.tile_tokens);
  // Whole tiles while more than two rounds of CTAs are left: neighbours then share what they read.
  const int64_t num_whole = std::max<int64_t>(tiles / plan.num_ctas - 1, 0) * plan.num_ctas;
  if (is_whole || 2 * (tiles - num_whole) > kNumCounters) {
    plan.num_whole = static_cast<int32_t>(tiles);
    plan.num_ctas = static_cast<int32_t>(std::min<int64_t>(tiles, plan.num_ctas));
    plan.workspace_bytes = 0;
    return plan;
  }
  plan.num_whole = static_cast<int32_t>(num_whole);
  plan.workspace_bytes = int64_t{2} * plan.num_ctas * (has_two_segments(args) ? 2 : 1) *
                         plan.tile_rows * plan.tile_tokens * int64_t{4};
  return plan;
}

Sm90Plan plan_gemm_sm90(const GemmArgs& args, int num_sms) {
  Sm90Plan plan;
  while (plan.tile_tokens < args.tokens && plan.tile_tokens < 128) plan.tile_tokens *= 2;
  // 256 rows read a third less from L2, but two segments of sums would not fit, and few tiles would
  // be cut into many parts.
  if (plan.tile_tokens == 128 && !has_two_segments(args) && tiles_of(args, 256, 128) >= num_sms) {
    plan.tile_rows = 256;
  }
  const int64_t tiles = tiles_of(args, plan.tile_rows, plan.tile_tokens);
  const int64_t blocks = tiles * args.blocks;
  const bool is_whole =
      divide_up(tiles, num_sms) * args.blocks <= divide_up(blocks, num_sms) + kSplitBlocks;
  plan.num_ctas =
      is_whole ? num_sms
               : static_cast<int32_t>(std::clamp<int64_t>(blocks / kLeastBlocks, 1, num_sms));
  return cut_gemm_sm90(args, plan, is_whole);
}

void run_gemm_sm90(const GemmArgs& args, const Sm90Plan& plan, void* workspace, int32_t* counters,
                   CUstream_st* stream) {
  if (args.tokens == 0 || args.num_tiles == 0) return;
  const int64_t k = int64_t{args.blocks} * 128;
  const CUtensorMap x_map = make_tensor_map({.data = args.codes,
                                             .dtype = DType::kI8,
                                             .rows = args.tokens,
                                             .columns = k,
                                             .stride = k,
                                             .box_rows = plan.tile_tokens});
  launch_gemm_sm90(args, plan, &x_map, workspace, counters, stream);
}

}  // namespace comet::formats::w4ax::cuda
