// w4ax on CUDA: weights as they lie in the file, tables of the site and of the output tiles beside
// them; producers; kernel rows. Activation parts: codes and scales as on the CPU, no block sums.
#include <fmt/format.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/formats/cuda/float_rows.h"
#include "comet/formats/cuda/linear_end.h"
#include "comet/formats/float_input.h"
#include "comet/formats/w4ax/cuda/chains/gemm_sm90_chains.h"
#include "comet/formats/w4ax/cuda/gemm_sm90_choice.h"
#include "comet/formats/w4ax/cuda/sm80/gemm_sm80.h"
#include "comet/formats/w4ax/w4ax.h"

namespace comet::formats {
namespace w4ax {
namespace {

/// Meta and what kernels read of it.
struct CudaMeta final : Meta {
  explicit CudaMeta(const Meta& meta) : Meta(meta) {}
  Tensor device_perm;      // I32 [k_padded]; undefined when identity
  Tensor device_tiles;     // I32 [tiles, 2], OutputTile
  Tensor device_counters;  // I32 [kNumCounters], zero between launches
};

const CudaMeta& cuda_meta_of(const LinearWeight& weight) {
  const auto* meta = dynamic_cast<const CudaMeta*>(weight.meta.get());
  COMET_CHECK(meta != nullptr, "'{}' is not prepared for CUDA", weight.spec.name);
  return *meta;
}

Tensor device_tiles(Context& ctx, const Meta& meta) {
  std::vector<int32_t> table;
  for (const RowTile& tile : meta.tiles) {
    table.push_back(static_cast<int32_t>(tile.column));
    table.push_back(static_cast<int32_t>(tile.num_rows));
  }
  return copy_to_device(ctx, table, Shape{static_cast<int64_t>(meta.tiles.size()), 2});
}

Status prepare(Context& ctx, LinearWeight& weight) {
  auto meta = std::make_shared<CudaMeta>(meta_of(weight));
  if (!meta->site.perm.empty()) {
    meta->device_perm = copy_to_device(ctx, meta->site.perm, Shape{meta->site.k_padded});
  }
  meta->device_tiles = device_tiles(ctx, *meta);
  meta->device_counters =
      copy_to_device(ctx, std::vector<int32_t>(cuda::kNumCounters, 0), Shape{cuda::kNumCounters});
  for (size_t slot = 0; slot < weight.tensors.size(); ++slot) {
    Tensor& tensor = weight.tensors[slot];
    if (!tensor.defined()) continue;
    tensor = slot == kBias ? copy_to_device(ctx, float_elements({&tensor, 1}), tensor.shape())
                           : copy_to_device(ctx, tensor);
  }
  weight.meta = std::move(meta);
  return {};
}

// ---- Producers

Activation produce(Context& ctx, const LinearWeight& weight,
                   const formats::cuda::RowSource& source) {
  const CudaMeta& meta = cuda_meta_of(weight);
  const SiteLayout& site = meta.site;
  Activation activation;
  activation.rows = source.rows;
  activation.parts[kCodes] = ctx.arena.alloc(DType::kI8, {source.rows, site.k_padded});
  activation.parts[kScales] = ctx.arena.alloc(
      DType::kF32, {source.rows, site.scale == ActScale::kS1 ? site.num_blocks() : 2});
  if (source.rows == 0) return activation;
  formats::cuda::BlockSink sink;
  sink.codes = activation.parts[kCodes].data<int8_t>();
  sink.scales = activation.parts[kScales].data<float>();
  if (meta.device_perm.defined()) sink.perm = meta.device_perm.data<int32_t>();
  sink.blocks = site.num_blocks();
  sink.int4_blocks = site.num_blocks() - site.int8_blocks;
  sink.clip = site.clip;
  sink.scale = static_cast<formats::cuda::BlockScale>(site.scale);
  formats::cuda::produce_w4ax(source, sink, ctx.cuda->stream);
  return activation;
}

// ---- Products

/// What plans are made of: shapes alone.
cuda::GemmArgs shape_args(const Meta& meta, int64_t tokens) {
  cuda::GemmArgs args;
  args.kind = static_cast<cuda::WeightKind>(meta.granularity);
  args.num_tiles = static_cast<int32_t>(meta.tiles.size());
  args.blocks = static_cast<int32_t>(meta.site.num_blocks());
  args.int4_blocks = args.blocks - static_cast<int32_t>(meta.site.int8_blocks);
  args.block_scales = meta.site.scale == ActScale::kS1;
  args.tokens = static_cast<int32_t>(tokens);
  return args;
}

cuda::GemmArgs gemm_args(const LinearWeight& weight, const CudaMeta& meta, const Activation& x,
                         const Rows& out) {
  COMET_CHECK(out.num_rows == x.rows && out.num_columns == weight.spec.n() &&
                  (out.dtype == DType::kF32 || out.dtype == DType::kBF16),
              "{}: output [{}, {}] {}", weight.spec.name, out.num_rows, out.num_columns,
              dtype_name(out.dtype));
  const std::vector<Tensor>& tensors = weight.tensors;
  cuda::GemmArgs args = shape_args(meta, x.rows);
  args.packed = tensors[kPacked].data<uint8_t>();
  if (tensors[kChannelScale].defined()) args.channel_scale = tensors[kChannelScale].data<float>();
  if (tensors[kGroupScale].defined()) {
    args.group_scale = reinterpret_cast<const uint16_t*>(tensors[kGroupScale].raw());
  }
  if (tensors[kMultiplier].defined()) {
    args.multiplier = tensors[kMultiplier].data<uint8_t>();
    args.offset = tensors[kOffset].data<int8_t>();
  }
  if (tensors[kBias].defined()) args.bias = tensors[kBias].data<float>();
  args.tiles = reinterpret_cast<const cuda::OutputTile*>(meta.device_tiles.raw());
  args.out_is_bf16 = out.dtype == DType::kBF16;
  args.codes = x.parts[kCodes].data<int8_t>();
  args.x_scales = x.parts[kScales].data<float>();
  args.out = out.data;
  args.out_stride = out.stride;
  return args;
}

/// nullptr if a plan needs none.
void* allocate_workspace(Context& ctx, int64_t bytes) {
  return bytes > 0 ? ctx.arena.alloc(DType::kU8, {bytes}).raw() : nullptr;
}

void run_mma(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  const CudaMeta& meta = cuda_meta_of(weight);
  const cuda::GemmArgs args = gemm_args(weight, meta, x, out);
  if (x.rows == 0) return;
  cuda::GemmPlan plan = cuda::plan_gemm(args, ctx.cuda->num_sms);
  plan.starts_early = ctx.cuda->sm == 90;  // later cards run PTX of sm_80, which does not wait
  const ArenaScope scope(ctx.arena);       // the stream orders whoever writes there next
  void* workspace = allocate_workspace(ctx, plan.workspace_bytes);
  cuda::gemm_mma(args, plan, workspace, meta.device_counters.data<int32_t>(), ctx.cuda->stream);
}

void run_sm90(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  const CudaMeta& meta = cuda_meta_of(weight);
  const cuda::GemmArgs args = gemm_args(weight, meta, x, out);
  if (x.rows == 0) return;
  const cuda::Sm90Choice choice = cuda::choose_gemm_sm90(args, ctx.cuda->num_sms);
  if (choice.is_split) return cuda::run_gemm_split(args, choice.split, ctx.cuda->stream);
  const cuda::Sm90Plan& plan = choice.tiles;
  const ArenaScope scope(ctx.arena);
  void* workspace = allocate_workspace(ctx, plan.workspace_bytes);
  cuda::run_gemm_sm90(args, plan, workspace, meta.device_counters.data<int32_t>(),
                      ctx.cuda->stream);
}

void run_chains(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  const CudaMeta& meta = cuda_meta_of(weight);
  const cuda::GemmArgs args = gemm_args(weight, meta, x, out);
  if (x.rows == 0) return;
  const cuda::ChainsPlan plan = cuda::plan_gemm_chains(args, ctx.cuda->num_sms);
  const ArenaScope scope(ctx.arena);
  void* workspace = allocate_workspace(ctx, plan.workspace_bytes);
  cuda::run_gemm_chains(args, plan, workspace, ctx.cuda->stream);
}

cuda::Sm80Plan plan_sm80(const cuda::GemmArgs& args, int sm, int num_sms) {
  const int num_ctas = cuda::sm80_num_ctas(cuda::sm80_tile_tokens(args), sm, num_sms);
  return cuda::plan_gemm_sm80(args, cuda::sm80_step_costs(args), num_ctas);
}

void run_sm80(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  const CudaMeta& meta = cuda_meta_of(weight);
  const cuda::GemmArgs args = gemm_args(weight, meta, x, out);
  if (x.rows == 0) return;
  const cuda::Sm80Plan plan = plan_sm80(args, ctx.cuda->sm, ctx.cuda->num_sms);
  const ArenaScope scope(ctx.arena);
  void* workspace = allocate_workspace(ctx, plan.workspace_bytes);
  cuda::gemm_sm80(args, plan, workspace, meta.device_counters.data<int32_t>(), ctx.cuda->stream);
}

std::string describe_sm80(const LinearWeight& weight, const Caps& caps, int64_t rows) {
  const cuda::GemmArgs args = shape_args(meta_of(weight), rows);
  const cuda::Sm80Plan plan = plan_sm80(args, caps.sm, caps.num_sms);
  return fmt::format("tiles of 128 x {}, {} CTAs, {}{}", plan.tile_tokens, plan.schedule.num_ctas,
                     plan.parts_bytes > 0 ? "tiles shared by cost" : "tiles whole",
                     caps.sm >= 90 ? "; s4 products are emulated on this card" : "");
}

std::string describe_sm90(const LinearWeight& weight, const Caps& caps, int64_t rows) {
  const cuda::GemmArgs args = shape_args(meta_of(weight), rows);
  const cuda::Sm90Choice choice = cuda::choose_gemm_sm90(args, caps.num_sms);
  const char* origin = choice.is_measured ? "as measured" : "by estimate";
  if (choice.is_split) {
    const cuda::SplitPlan& split = choice.split;
    return fmt::format(
        "tiles of {} x {} by {} consumer warpgroups{}, channels over clusters of {}; {:.1f} us {}",
        split.tile_rows, split.tile_tokens, split.num_teams * split.tile_rows / 64,
        split.is_alone ? ", alone on an SM" : "", split.num_splits, choice.us, origin);
  }
  const cuda::Sm90Plan& plan = choice.tiles;
  std::string cut = plan.workspace_bytes == 0 ? "tiles whole" : "the last tiles shared";
  if (plan.num_splits > 1) cut = fmt::format("channels over clusters of {}", plan.num_splits);
  return fmt::format("{}tiles of {} x {}, {} CTAs, {}; {:.1f} us {}", plan.is_wide ? "wide " : "",
                     plan.tile_rows, plan.tile_tokens, plan.num_ctas, cut, choice.us, origin);
}

std::string describe_chains(const LinearWeight& weight, const Caps& caps, int64_t rows) {
  const cuda::GemmArgs args = shape_args(meta_of(weight), rows);
  const cuda::ChainsPlan plan = cuda::plan_gemm_chains(args, caps.num_sms);
  const std::string cut = plan.num_splits > 1
                              ? fmt::format("chains over clusters of {}", plan.num_splits)
                              : "tiles whole";
  return fmt::format("tiles of 128 x {}, {} CTAs, {}; {:.1f} us by estimate", plan.tile_tokens,
                     plan.num_ctas, cut, cuda::time_gemm_chains_us(args, plan, caps.num_sms));
}

bool has_scales_per_block(const LinearWeight& weight) {
  return cuda::has_block_chains(shape_args(meta_of(weight), 1));
}

/// sm_90a code runs on sm_90 alone: a kernel for scales per segment, one for scales per block.
bool supports_sm90(const LinearWeight& weight, const Caps& caps) {
  return caps.kind == DeviceKind::kCuda && caps.sm == 90 && !has_scales_per_block(weight);
}

bool supports_chains(const LinearWeight& weight, const Caps& caps) {
  return caps.kind == DeviceKind::kCuda && caps.sm == 90 && has_scales_per_block(weight);
}

/// INT4 blocks through INT4 products, for the tensor cores of sm_8x; later cards have none for them
/// and emulate them, right but slow.
bool supports_sm80(const LinearWeight& weight, const Caps& caps) {
  const Meta& meta = meta_of(weight);
  return caps.kind == DeviceKind::kCuda && caps.sm >= 80 &&
         meta.granularity == Granularity::kChannel && meta.site.scale != ActScale::kS1 &&
         meta.site.int8_blocks < meta.site.num_blocks();
}

bool supports_mma(const LinearWeight& /*weight*/, const Caps& caps) { return caps.sm >= 80; }

double cost_mma_us(const LinearWeight& weight, const Caps& /*caps*/) {
  return static_cast<double>(weight.bytes()) / 3e6;
}

double cost_sm80_us(const LinearWeight& weight, const Caps& caps) {
  constexpr double kEmulated = 20;  // 48 TOPS of s4 products against 1,273 of s8 ones on an H100
  return static_cast<double>(weight.bytes()) / 3.5e6 * (caps.sm >= 90 ? kEmulated : 1);
}

double cost_sm90_us(const LinearWeight& weight, const Caps& /*caps*/) {
  return static_cast<double>(weight.bytes()) / 4e6;
}

constexpr LinearKernel kCudaKernels[] = {{.name = "w4ax_mma",
                                          .supports = supports_mma,
                                          .cost_us = cost_mma_us,
                                          .run = run_mma,
                                          .run_with = formats::cuda::run_with_end<run_mma>},
                                         {.name = "w4ax_sm80",
                                          .supports = supports_sm80,
                                          .cost_us = cost_sm80_us,
                                          .run = run_sm80,
                                          .describe = describe_sm80,
                                          .run_with = formats::cuda::run_with_end<run_sm80>},
                                         {.name = "w4ax_sm90",
                                          .supports = supports_sm90,
                                          .cost_us = cost_sm90_us,
                                          .run = run_sm90,
                                          .describe = describe_sm90,
                                          .run_with = formats::cuda::run_with_end<run_sm90>},
                                         {.name = "w4ax_sm90_chains",
                                          .supports = supports_chains,
                                          .cost_us = cost_sm90_us,
                                          .run = run_chains,
                                          .describe = describe_chains,
                                          .run_with = formats::cuda::run_with_end<run_chains>}};

}  // namespace
}  // namespace w4ax

const FormatBackend& w4ax_cuda_backend() {
  static const FormatBackend backend =
      cuda::backend_of<w4ax::produce>(w4ax::kCudaKernels, w4ax::prepare);
  return backend;
}

}  // namespace comet::formats
