// The w4ax product by wgmma (sm_90a) for scales per segment, S2 and S2h of channel and progressive
// weights: plan, launch. Every result has the bits of reference_linear (docs/formats.md §1).
// Callers: backend_cuda.cpp, tests.
#pragma once

#include "comet/formats/w4ax/cuda/gemm_mma.h"

namespace comet::formats::w4ax::cuda {

/// How a product is cut. CTAs stay until the work is done; the first num_whole tiles go to them one
/// by one, the blocks of the others in equal shares, whatever the tiles' borders.
struct Sm90Plan {
  int32_t tile_rows = 128;   // 128; wide ones also 256
  int32_t tile_tokens = 16;  // 16, 32, 64, 128; of wide ones gemm_sm90_wide.h tells
  int32_t num_ctas = 1;
  int32_t num_whole = 0;
  int64_t workspace_bytes = 0;
  bool is_wide = false;    // the tiles of gemm_sm90_wide.h, whole
  int32_t num_splits = 1;  // of them: CTAs of a cluster that share a tile's blocks
};

/// What fits an SM beside each other: few sums leave room for a CTA of the next launch, or for a
/// second one of this.
constexpr int sm90_ctas_per_sm(int tile_tokens, int num_segments) {
  return tile_tokens * num_segments <= 64 ? 2 : 1;
}

/// The cut that time_gemm_sm90_us() gives the shortest time. Of `args` these three read shapes
/// only.
Sm90Plan plan_gemm_sm90(const GemmArgs& args, int num_sms);
/// Estimated time of a launch, weights from memory: to compare cuts (gemm_sm90_plan.cpp).
double time_gemm_sm90_us(const GemmArgs& args, const Sm90Plan& plan, int num_sms);
/// `plan` (tile and CTAs) with the rest of its fields: all tiles whole, or shared as described.
Sm90Plan cut_gemm_sm90(const GemmArgs& args, Sm90Plan plan, bool is_whole);

struct Sm90Maps;  // gemm_sm90_maps.h

/// `workspace`: plan.workspace_bytes, 16-byte aligned. `counters`: kNumCounters, zero
/// before and after. Throws CudaError.
void launch_gemm_sm90(const GemmArgs& args, const Sm90Plan& plan, const Sm90Maps& maps,
                      void* workspace, int32_t* counters, CUstream_st* stream);

/// Makes the maps and launches (gemm_sm90_cuda.cpp).
void run_gemm_sm90(const GemmArgs& args, const Sm90Plan& plan, void* workspace, int32_t* counters,
                   CUstream_st* stream);

}  // namespace comet::formats::w4ax::cuda
