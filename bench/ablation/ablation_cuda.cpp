#include "bench/ablation/ablation.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "bench/ablation/variants.h"
#include "comet/base/rng.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"

namespace comet::bench {
namespace {

namespace w4ax = formats::w4ax::cuda;

constexpr int64_t kBlockChannels = 128;
constexpr int64_t kBlockBytes = 8192;  // 128 rows of a block of channels
constexpr int64_t kOwnBlocks = 256;    // of random weights, again and again
constexpr int kHopper = 90;

struct Variant {
  std::string name;
  std::string against;
  AblationFeatures features;
  bool has_scheduling = true;
  bool has_int4_products = false;
};

/// Feature by feature; s4 products, which the ablation's card may not have; the whole without each
/// feature (without scheduling it is "packing").
std::vector<Variant> variants() {
  return {{"naive", "", {false, false, false}, false},
          {"x16", "naive", {true, false, false}, false},
          {"pipeline", "x16", {true, true, false}, false},
          {"packing", "pipeline", {true, true, true}, false},
          {"scheduling", "packing", {true, true, true}},
          {"no_x16", "scheduling", {false, true, true}},
          {"no_pipeline", "scheduling", {true, false, true}},
          {"no_packing", "scheduling", {true, true, false}},
          {"int4_mma", "scheduling", {true, true, true}, true, true}};
}

template <typename T>
class DeviceVector {
 public:
  DeviceVector(Context& ctx, int64_t count)
      : storage_(ctx.memory, static_cast<size_t>(std::max<int64_t>(count, 1)) * sizeof(T)) {}
  DeviceVector(Context& ctx, const std::vector<T>& values)
      : DeviceVector(ctx, static_cast<int64_t>(values.size())) {
    COMET_CUDA(cudaMemcpyAsync(storage_.data(), values.data(), values.size() * sizeof(T),
                               cudaMemcpyHostToDevice, ctx.cuda->stream));
    COMET_CUDA(cudaStreamSynchronize(ctx.cuda->stream));
  }
  [[nodiscard]] T* get() const { return reinterpret_cast<T*>(storage_.data()); }

 private:
  Storage storage_;
};

std::vector<uint8_t> random_bytes(int64_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<uint8_t> bytes(static_cast<size_t>(count));
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(rng.next_bits());
  return bytes;
}

std::vector<uint8_t> by_rows(const std::vector<uint8_t>& tile128) {
  std::vector<uint8_t> rows(tile128.size());
  pack_by_rows(tile128.data(), rows.data(), static_cast<int64_t>(tile128.size()) / kBlockBytes);
  return rows;
}

/// Codes of −7 … 7 in the INT4 blocks, of −127 … 127 behind them.
std::vector<int8_t> random_codes(int64_t m, int64_t k, int64_t int4_channels, uint64_t seed) {
  Rng rng(seed);
  std::vector<int8_t> codes(static_cast<size_t>(m * k));
  for (int64_t i = 0; i < m * k; ++i) {
    const int most = i % k < int4_channels ? 7 : 127;
    const auto num_values = static_cast<uint64_t>(2 * most + 1);
    codes[static_cast<size_t>(i)] =
        static_cast<int8_t>(static_cast<int>(rng.next_below(num_values)) - most);
  }
  return codes;
}

std::vector<float> random_scales(int64_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> scales(static_cast<size_t>(count));
  for (float& scale : scales) scale = 0.001F + 0.01F * rng.next_uniform();
  return scales;
}

std::vector<w4ax::OutputTile> plain_tiles(int64_t count) {
  std::vector<w4ax::OutputTile> tiles;
  for (int32_t i = 0; i < static_cast<int32_t>(count); ++i) tiles.push_back({i * 128, 128});
  return tiles;
}

/// The product's operands, weights in both layouts and often enough to exceed L2.
class Operands {
 public:
  Operands(Context& ctx, const AblationCase& what, uint64_t seed)
      : blocks_(what.k / kBlockChannels),
        int4_blocks_(blocks_ - static_cast<int64_t>(
                                   std::ceil(what.int8_share * static_cast<double>(blocks_)))),
        weight_bytes_(what.n * what.k / 2),
        num_copies_(num_rotating_buffers(weight_bytes_)),
        own_(random_bytes(kOwnBlocks * kBlockBytes, seed)),
        tile128_(ctx, num_copies_ * weight_bytes_),
        rows_(ctx, num_copies_ * weight_bytes_),
        codes_(ctx, random_codes(what.m, what.k, int4_blocks_ * kBlockChannels, seed + 1)),
        channel_scale_(ctx, random_scales(what.n, seed + 2)),
        x_scales_(ctx, random_scales(2 * what.m, seed + 3)),
        tiles_(ctx, plain_tiles(what.n / 128)),
        counters_(ctx, std::vector<int32_t>(static_cast<size_t>(w4ax::kNumCounters), 0)),
        out_(ctx, what.m * what.n) {
    fill(ctx, tile128_.get(), own_);
    fill(ctx, rows_.get(), by_rows(own_));
    args_.channel_scale = channel_scale_.get();
    args_.tiles = tiles_.get();
    args_.num_tiles = static_cast<int32_t>(what.n / 128);
    args_.blocks = static_cast<int32_t>(blocks_);
    args_.int4_blocks = static_cast<int32_t>(int4_blocks_);
    args_.out_is_bf16 = true;
    args_.tokens = static_cast<int32_t>(what.m);
    args_.codes = codes_.get();
    args_.x_scales = x_scales_.get();
    args_.out = out_.get();
    args_.out_stride = what.n;
  }

  [[nodiscard]] w4ax::GemmArgs args(int64_t call_idx, bool is_tile128) const {
    w4ax::GemmArgs result = args_;
    result.packed = (is_tile128 ? tile128_ : rows_).get() + call_idx % num_copies_ * weight_bytes_;
    return result;
  }
  [[nodiscard]] int64_t num_copies() const { return num_copies_; }
  [[nodiscard]] int32_t* counters() const { return counters_.get(); }

  /// Outputs of a launch into poisoned memory.
  [[nodiscard]] std::vector<uint16_t> outputs_of(Context& ctx,
                                                 const std::function<void()>& launch) const {
    std::vector<uint16_t> host(static_cast<size_t>(args_.tokens * args_.out_stride));
    COMET_CUDA(cudaMemsetAsync(out_.get(), 0xFF, host.size() * 2, ctx.cuda->stream));
    launch();
    COMET_CUDA(cudaMemcpyAsync(host.data(), out_.get(), host.size() * 2, cudaMemcpyDeviceToHost,
                               ctx.cuda->stream));
    COMET_CUDA(cudaStreamSynchronize(ctx.cuda->stream));
    return host;
  }

 private:
  /// The same blocks again and again, doubling what is there.
  void fill(Context& ctx, uint8_t* to, const std::vector<uint8_t>& from) const {
    const int64_t bytes = num_copies_ * weight_bytes_;
    int64_t filled = std::min(bytes, static_cast<int64_t>(from.size()));
    COMET_CUDA(cudaMemcpyAsync(to, from.data(), static_cast<size_t>(filled), cudaMemcpyHostToDevice,
                               ctx.cuda->stream));
    while (filled < bytes) {
      const int64_t count = std::min(filled, bytes - filled);
      COMET_CUDA(cudaMemcpyAsync(to + filled, to, static_cast<size_t>(count),
                                 cudaMemcpyDeviceToDevice, ctx.cuda->stream));
      filled += count;
    }
    COMET_CUDA(cudaStreamSynchronize(ctx.cuda->stream));
  }

  int64_t blocks_;
  int64_t int4_blocks_;
  int64_t weight_bytes_;
  int64_t num_copies_;
  std::vector<uint8_t> own_;
  DeviceVector<uint8_t> tile128_;
  DeviceVector<uint8_t> rows_;
  DeviceVector<int8_t> codes_;
  DeviceVector<float> channel_scale_;
  DeviceVector<float> x_scales_;
  DeviceVector<w4ax::OutputTile> tiles_;
  DeviceVector<int32_t> counters_;
  DeviceVector<uint16_t> out_;
  w4ax::GemmArgs args_;
};

w4ax::Sm80Plan plan_of(const CudaResources& gpu, const Variant& variant,
                       const w4ax::GemmArgs& args) {
  const int32_t tile_tokens = w4ax::sm80_tile_tokens(args);
  const int num_ctas = w4ax::sm80_num_ctas(tile_tokens, gpu.sm, gpu.num_sms);
  if (!variant.has_scheduling) {
    const w4ax::TileGrid grid = w4ax::sm80_grid(args, tile_tokens);
    return w4ax::plan_gemm_sm80_with(args, tile_tokens, w4ax::deal_tiles(grid, num_ctas));
  }
  // All blocks take s8 products, hence the same time, unless INT4 blocks take s4 ones.
  const w4ax::StepCosts costs =
      variant.has_int4_products ? w4ax::sm80_step_costs(args) : w4ax::StepCosts{1, 1};
  return w4ax::plan_gemm_sm80(args, costs, num_ctas);
}

std::vector<uint16_t> mma_outputs(Context& ctx, const Operands& operands) {
  const w4ax::GemmArgs args = operands.args(0, true);
  const w4ax::GemmPlan plan = w4ax::plan_gemm(args, ctx.cuda->num_sms);
  const DeviceVector<uint8_t> workspace(ctx, plan.workspace_bytes);
  return operands.outputs_of(ctx, [&] {
    w4ax::gemm_mma(args, plan, workspace.get(), operands.counters(), ctx.cuda->stream);
  });
}

AblationTiming time_variant(Context& ctx, const Operands& operands, const Variant& variant,
                            const std::vector<uint16_t>& want) {
  const bool is_tile128 = variant.features.has_packing;
  const w4ax::Sm80Plan plan = plan_of(*ctx.cuda, variant, operands.args(0, is_tile128));
  const DeviceVector<uint8_t> workspace(ctx, plan.workspace_bytes);
  const auto launch = [&](int64_t i) {
    const w4ax::GemmArgs args = operands.args(i, is_tile128);
    if (variant.has_int4_products) {
      w4ax::gemm_sm80(args, plan, workspace.get(), operands.counters(), ctx.cuda->stream);
    } else {
      launch_variant(variant.features, args, plan, workspace.get(), operands.counters(),
                     ctx.cuda->stream);
    }
  };
  AblationTiming timing;
  timing.variant = variant.name;
  timing.against = variant.against;
  timing.num_ctas = plan.schedule.num_ctas;
  timing.has_shared_tiles = plan.parts_bytes > 0;
  timing.is_emulated = variant.has_int4_products && ctx.cuda->sm >= kHopper;
  COMET_CHECK(operands.outputs_of(ctx, [&] { launch(0); }) == want,
              "variant '{}' of w4ax_sm80 gives other outputs than w4ax_mma", variant.name);
  GpuTimerOptions options;
  options.num_buffers = operands.num_copies();
  const GpuTiming measured = time_on_gpu(ctx, launch, options);
  timing.us = measured.us;
  timing.state = measured.state;
  return timing;
}

}  // namespace

std::vector<AblationTiming> time_ablation(Context& ctx, const AblationCase& what, uint64_t seed) {
  COMET_CHECK(
      what.n > 0 && what.k > 0 && what.m > 0 && what.n % 128 == 0 && what.k % kBlockChannels == 0,
      "an ablation of [{}, {}] x [{}, {}]", what.m, what.k, what.n, what.k);
  const Operands operands(ctx, what, seed);
  const std::vector<uint16_t> want = mma_outputs(ctx, operands);
  std::vector<AblationTiming> timings;
  for (const Variant& variant : variants()) {
    timings.push_back(time_variant(ctx, operands, variant, want));
  }
  return timings;
}

}  // namespace comet::bench
