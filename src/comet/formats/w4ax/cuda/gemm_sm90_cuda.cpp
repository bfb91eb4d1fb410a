// The host's half of gemm_sm90 and gemm_sm90_split: maps of their operands.
#include "comet/base/check.h"
#include "comet/device/cuda/tensor_map.h"
#include "comet/formats/w4ax/cuda/gemm_sm90.h"
#include "comet/formats/w4ax/cuda/gemm_sm90_maps.h"
#include "comet/formats/w4ax/cuda/split/gemm_sm90_split.h"

namespace comet::formats::w4ax::cuda {

CUtensorMap map_of_codes(const GemmArgs& args, int32_t tile_tokens) {
  const int64_t k = int64_t{args.blocks} * 128;
  return make_tensor_map({.data = args.codes,
                          .dtype = DType::kI8,
                          .rows = args.tokens,
                          .columns = k,
                          .stride = k,
                          .box_rows = tile_tokens});
}

void run_gemm_sm90(const GemmArgs& args, const Sm90Plan& plan, void* workspace, int32_t* counters,
                   CUstream_st* stream) {
  if (args.tokens == 0 || args.num_tiles == 0) return;
  Sm90Maps maps{};
  maps.codes = map_of_codes(args, plan.tile_tokens);
  maps.packed = make_block_map(args.packed, 8192);
  if (args.kind == WeightKind::kProgressive) {
    maps.multiplier = make_block_map(args.multiplier, 128);
    maps.offset = make_block_map(args.offset, 128);
  }
  launch_gemm_sm90(args, plan, maps, workspace, counters, stream);
}

void run_gemm_split(const GemmArgs& args, const SplitPlan& plan, CUstream_st* stream) {
  if (args.tokens == 0 || args.num_tiles == 0) return;
  COMET_CHECK(split_suits(args, plan),
              "{} tokens, {} blocks by tiles of {} x {} tokens, {} teams{}, in {} parts",
              args.tokens, args.blocks, plan.tile_rows, plan.tile_tokens, plan.num_teams,
              plan.is_alone ? " alone" : "", plan.num_splits);
  const CUtensorMap x_map = map_of_codes(args, plan.tile_tokens);
  launch_gemm_split(args, plan, &x_map, stream);
}

}  // namespace comet::formats::w4ax::cuda
