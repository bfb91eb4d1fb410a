// Producers of a w4ax input: FP32 rows → gather by the site's permutation → Hadamard on INT4 blocks
// (S2h) → codes. Norm and SiLU·mul run as plain ops into scratch rows first.
#include "comet/formats/cpu/quantize_row_of.h"
#include "comet/formats/w4ax/w4ax.h"
#include "comet/ops/op_table.h"

namespace comet::formats::w4ax {
namespace {

formats::cpu::RowPlan row_plan(const SiteLayout& site) {
  formats::cpu::RowPlan plan;
  plan.perm = site.perm.empty() ? nullptr : site.perm.data();
  plan.k = site.k;
  plan.blocks = site.num_blocks();
  plan.int4_blocks = site.num_blocks() - site.int8_blocks;
  plan.clip = site.clip;
  plan.scale = static_cast<formats::cpu::RowScale>(site.scale);
  return plan;
}

Activation allocate(Context& ctx, const SiteLayout& site, int64_t rows) {
  const int64_t num_scales = site.scale == ActScale::kS1 ? site.num_blocks() : 2;
  Activation activation;
  activation.rows = rows;
  activation.parts[kCodes] = ctx.arena.alloc(DType::kI8, {rows, site.k_padded});
  activation.parts[kScales] = ctx.arena.alloc(DType::kF32, {rows, num_scales});
  activation.parts[kBlockSums] = ctx.arena.alloc(DType::kI32, {rows, site.num_blocks()});
  return activation;
}

void quantize_rows(Context& ctx, const SiteLayout& site, View<const float, 2> x,
                   const Activation& activation) {
  COMET_CHECK(x.size(1) == site.k && (x.strides[1] == 1 || site.k == 1),
              "{}: input rows of {} channels, not {}", site.name, x.size(1), site.k);
  const formats::cpu::QuantizeRow quantize_row = formats::cpu::quantize_row_of(ctx.caps.cpu_isa);
  const formats::cpu::RowPlan plan = row_plan(site);
  auto* scratch = ctx.arena.alloc_array<float>(ctx.pool.num_threads() * site.k_padded);
  auto* codes = activation.parts[kCodes].data<int8_t>();
  auto* scales = activation.parts[kScales].data<float>();
  auto* sums = activation.parts[kBlockSums].data<int32_t>();
  const int64_t num_scales = activation.parts[kScales].size(1);
  ctx.pool.parallel_for(x.size(0), [&](int64_t row, int thread) {
    quantize_row(
        plan, x.row(row), scratch + thread * site.k_padded,
        {codes + row * site.k_padded, scales + row * num_scales, sums + row * site.num_blocks()});
  });
}

}  // namespace

Activation input_from_rows(Context& ctx, const LinearWeight& weight, ConstRows x) {
  const SiteLayout& site = meta_of(weight).site;
  Activation activation = allocate(ctx, site, x.num_rows);
  const ArenaScope scope(ctx.arena);
  quantize_rows(ctx, site, x.f32(), activation);
  return activation;
}

Activation input_from_norm(Context& ctx, const LinearWeight& weight, const NormInput& input) {
  const SiteLayout& site = meta_of(weight).site;
  Activation activation = allocate(ctx, site, input.x.size(0));
  const ArenaScope scope(ctx.arena);
  const Tensor rows = ctx.arena.alloc(DType::kF32, {input.x.size(0), input.x.size(1)});
  norm_rows(ctx, rows.view<float, 2>(), input);
  quantize_rows(ctx, site, rows.view<const float, 2>(), activation);
  return activation;
}

Activation input_from_silu_mul(Context& ctx, const LinearWeight& weight,
                               const SiluMulInput& input) {
  const SiteLayout& site = meta_of(weight).site;
  Activation activation = allocate(ctx, site, input.gate.num_rows);
  const ArenaScope scope(ctx.arena);
  const Tensor rows = ctx.arena.alloc(DType::kF32, {input.gate.num_rows, input.gate.num_columns});
  ctx.ops.silu_mul(ctx, rows.view<float, 2>(), input.gate.f32(), input.up.f32());
  quantize_rows(ctx, site, rows.view<const float, 2>(), activation);
  return activation;
}

}  // namespace comet::formats::w4ax
