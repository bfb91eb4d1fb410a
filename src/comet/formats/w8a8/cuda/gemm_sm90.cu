// Instances of gemm_sm90.cuh, the choice among them, and their launch.
#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/formats/w8a8/cuda/gemm_sm90.cuh"

namespace comet::formats::w8a8 {
namespace {

constexpr int kMaxPlannedSplits = 4;  // 8 was slower wherever it was tried
constexpr int kMinStepsPerSplit = 4;  // of 128 bytes of k

template <typename Traits>
void launch(const GemmArgs& args, const Sm90Plan& plan, const void* w_map, const void* x_map,
            CUstream_st* stream) {
  COMET_CUDA(cudaFuncSetAttribute(gemm_sm90<Traits>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  Traits::kSharedBytes));
  const int channel_tiles = sm90_channel_tiles(args.n);
  const int token_tiles = (args.rows + Traits::kTokens - 1) / Traits::kTokens;
  const auto splits = static_cast<unsigned>(plan.num_splits);
  const auto num_tiles = static_cast<unsigned>(channel_tiles * token_tiles);
  launch_overlapped({.grid = dim3(num_tiles, 1, splits),
                     .threads = Traits::kThreads,
                     .shared_bytes = Traits::kSharedBytes,
                     .stream = stream,
                     .cluster = dim3(1, 1, splits)},
                    gemm_sm90<Traits>, args, *static_cast<const CUtensorMap*>(w_map),
                    *static_cast<const CUtensorMap*>(x_map));
}

template <bool kE4M3>
bool launch_type(const GemmArgs& args, const Sm90Plan& plan, const void* w_map, const void* x_map,
                 CUstream_st* stream) {
  switch (plan.tile_tokens) {
    case 16:
      launch<Sm90Traits<kE4M3, 16>>(args, plan, w_map, x_map, stream);
      return true;
    case 32:
      launch<Sm90Traits<kE4M3, 32>>(args, plan, w_map, x_map, stream);
      return true;
    case 64:
      launch<Sm90Traits<kE4M3, 64>>(args, plan, w_map, x_map, stream);
      return true;
    case 128:
      launch<Sm90Traits<kE4M3, 128>>(args, plan, w_map, x_map, stream);
      return true;
    case 256:
      if constexpr (!kE4M3) launch<Sm90Traits<false, 256>>(args, plan, w_map, x_map, stream);
      return !kE4M3;
    default:
      return false;
  }
}

/// A tile of s8 for more than 64 tokens: clocks of an SM for a step of a CTA that is alone there,
/// and of one beside another; for start and end of a tile; for joining a split's sums. Clusters of
/// 1 … 4 CTAs that 132 SMs hold. Fitted to one H200, 256 tokens estimated (docs/kernels).
struct WideTile {
  int32_t tokens;
  int32_t alone;
  int32_t beside;
  int32_t end;
  int32_t join;
  int32_t clusters[kMaxPlannedSplits];
};
constexpr int kMeasuredSms = 132;
constexpr WideTile kWideTiles[] = {{64, 620, 1100, 3500, 3000, {264, 132, 79, 62}},
                                   {128, 1050, 1950, 4000, 5000, {264, 132, 79, 62}},
                                   {256, 1150, 1150, 8000, 5000, {132, 66, 39, 30}}};

int64_t clocks_of(const GemmArgs& args, const WideTile& tile, int splits, int num_sms) {
  const int64_t tiles =
      int64_t{sm90_channel_tiles(args.n)} * ((args.rows + tile.tokens - 1) / tile.tokens);
  const int64_t fit =
      std::max<int64_t>(1, int64_t{tile.clusters[splits - 1]} * num_sms / kMeasuredSms);
  const int64_t rounds = (tiles + fit - 1) / fit;
  const int64_t of_last = tiles - (rounds - 1) * fit;
  const int64_t steps = ((args.k + 127) / 128 + splits - 1) / splits;
  const int64_t last = of_last * splits <= num_sms ? tile.alone : tile.beside;
  return steps * ((rounds - 1) * tile.beside + last) +
         rounds * (tile.end + (splits > 1 ? tile.join : 0));
}

Sm90Plan plan_wide(const GemmArgs& args, int num_sms) {
  Sm90Plan best;
  int64_t best_clocks = 0;
  for (const WideTile& tile : kWideTiles) {
    for (int splits = 1; splits <= kMaxPlannedSplits; ++splits) {
      if (splits > 1 && (args.k + 127) / 128 < splits * kMinStepsPerSplit) continue;
      const int64_t clocks = clocks_of(args, tile, splits, num_sms);
      if (best_clocks == 0 || clocks < best_clocks) {
        best = {tile.tokens, splits};
        best_clocks = clocks;
      }
    }
  }
  return best;
}

}  // namespace

Sm90Plan plan_gemm_sm90(const GemmArgs& args, int num_sms) {
  if (args.rows > 64 && !args.is_e4m3) return plan_wide(args, num_sms);
  const auto num_tiles = [&](int tokens) {
    return sm90_channel_tiles(args.n) * ((args.rows + tokens - 1) / tokens);
  };
  Sm90Plan plan;
  while (plan.tile_tokens < args.rows && plan.tile_tokens < 64) plan.tile_tokens *= 2;
  // Tiles of 64 tokens while all of them run at once; larger ones read less.
  if (args.rows > 64 && num_tiles(64) > 2 * num_sms) plan.tile_tokens = 128;
  const int num_slots = plan.tile_tokens == 128 && args.is_e4m3 ? num_sms : 2 * num_sms;
  const int steps = (args.k + 127) / 128;
  while (2 * plan.num_splits * num_tiles(plan.tile_tokens) <= num_slots &&
         plan.num_splits < kMaxPlannedSplits && steps >= 2 * plan.num_splits * kMinStepsPerSplit) {
    plan.num_splits *= 2;
  }
  return plan;
}

void launch_gemm_sm90(const GemmArgs& args, const Sm90Plan& plan, const void* w_map,
                      const void* x_map, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const bool is_launched = args.is_e4m3 ? launch_type<true>(args, plan, w_map, x_map, stream)
                                        : launch_type<false>(args, plan, w_map, x_map, stream);
  if (!is_launched) {
    throw_cuda_error(cudaErrorInvalidValue, "gemm_sm90: no kernel for this plan", __FILE__,
                     __LINE__);
  }
}

}  // namespace comet::formats::w8a8
