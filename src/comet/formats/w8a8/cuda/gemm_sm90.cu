// Instances of gemm_sm90.cuh, the choice among them, and their launch.
#include "comet/device/cuda/cuda_check.h"
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
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {1, 1, splits};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(channel_tiles * token_tiles), 1, splits);
  config.blockDim = dim3(Traits::kThreads);
  config.dynamicSmemBytes = Traits::kSharedBytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  COMET_CUDA(cudaLaunchKernelEx(&config, gemm_sm90<Traits>, args,
                                *static_cast<const CUtensorMap*>(w_map),
                                *static_cast<const CUtensorMap*>(x_map)));
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
    default:
      return false;
  }
}

}  // namespace

Sm90Plan plan_gemm_sm90(const GemmArgs& args, int num_sms) {
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
