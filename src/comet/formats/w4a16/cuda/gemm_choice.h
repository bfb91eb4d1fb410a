// How w4a16's kernels cut a product, and the best measured cuts of the wgmma kernel (one card of
// 132 SMs, linears of LLaMA-3). Builds without CUDA. Callers: gemm.h, plan_gemm_wgmma(), tests.
#pragma once

#include <cstdint>

namespace comet::formats::w4a16_cuda {

/// CTAs of the wgmma kernel: of 128 rows, two of which fit an SM (up to 64 tokens); of 128 rows,
/// one an SM, with longer rings; of 256 rows, one an SM (scaled weights, up to 64 tokens).
enum class TileShape : int32_t { kHalf, kAlone, kTall };

/// What a product is cut into.
struct GemmPlan {
  int32_t tile_tokens = 0;
  int32_t num_splits = 1;              // of K; kTall: CTAs, which share all tiles evenly
  TileShape shape = TileShape::kHalf;  // wgmma only; 128 tokens are always kAlone
};

/// The cut of y [rows, n] = x · Wᵀ, W [n, k], that was the shortest on such a card; tile_tokens 0
/// where none was measured: then an estimate decides.
GemmPlan measured_plan(int32_t rows, int32_t n, int32_t k, int num_sms);

}  // namespace comet::formats::w4a16_cuda
