// The w4ax product as COMET's paper has it: blocks of INT4 codes through mma.m16n8k64 s4, blocks of
// INT8 codes through mma.m16n8k32 s8, one persistent kernel over a TileSchedule. Channel weights,
// S2 and S2h. For sm_80, sm_86 and sm_89; cards from sm_90 on emulate s4 products (right, but
// slow). Callers: backend_cuda.cpp, tests, bench/ablation.
#pragma once

#include "comet/formats/w4ax/cuda/gemm_mma.h"
#include "comet/formats/w4ax/cuda/sm80/tile_schedule.h"

namespace comet::formats::w4ax::cuda {

struct Sm80Plan {
  int32_t tile_tokens = 0;      // of a CTA, beside 128 rows: 16, 64 or 128
  int64_t parts_bytes = 0;      // of the workspace, for tiles that CTAs share
  int64_t workspace_bytes = 0;  // parts, then paired codes of INT4 blocks (128 tokens)
  TileSchedule schedule;
};

/// Codes of INT4 blocks lie in −8 … 7, one in a byte.
bool gemm_sm80_suits(const GemmArgs& args);

/// Tokens of a CTA, and how many such CTAs run at once.
int32_t sm80_tile_tokens(const GemmArgs& args);
int sm80_num_ctas(int tile_tokens, int sm, int num_sms);
/// Tiles and steps of the product with CTAs of so many tokens.
TileGrid sm80_grid(const GemmArgs& args, int tile_tokens);
/// What steps cost on a card whose s4 products take half the time of s8.
StepCosts sm80_step_costs(const GemmArgs& args);

/// Tiles whole or shared by at most num_ctas CTAs, whichever is done first by these costs.
Sm80Plan plan_gemm_sm80(const GemmArgs& args, const StepCosts& costs, int num_ctas);
/// The plan that obeys this schedule of sm80_grid(args, tile_tokens).
Sm80Plan plan_gemm_sm80_with(const GemmArgs& args, int tile_tokens, const TileSchedule& schedule);

/// `workspace`: plan.workspace_bytes, 16-byte aligned; `counters`: kNumCounters, zero before and
/// after. Throws CudaError.
void gemm_sm80(const GemmArgs& args, const Sm80Plan& plan, void* workspace, int32_t* counters,
               CUstream_st* stream);

}  // namespace comet::formats::w4ax::cuda
