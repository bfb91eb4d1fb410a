// Kernel rows of "w4a16" on the CPU: arrange the inputs, split the output channels over the pool.
#include <algorithm>

#include "comet/formats/cpu/isa_row.h"
#include "comet/formats/cpu/task_rows.h"
#include "comet/formats/float_input.h"
#include "comet/formats/w4a16/cpu/gemm_args.h"
#include "comet/formats/w4a16/w4a16.h"

namespace comet::formats::w4a16 {
namespace {

using w4a16_cpu::GemmArgs;
using w4a16_cpu::GemmIsa;
using w4a16_cpu::ScaleType;

int64_t rows_per_task(const GemmIsa& isa, const GemmArgs& args, int num_threads) {
  if (args.tokens > isa.few_tokens) return w4a16_cpu::kStripRows;
  return decode_task_rows(args.n, num_threads);
}

/// Input rows in the order in which the kernel decodes weights; all parts share them.
const float* arrange_inputs(Context& ctx, const GemmIsa& isa, const GemmArgs& args,
                            const LinearWeight& weight, const float* x) {
  const Layout& layout = layout_of(weight);
  const int64_t k = weight.spec.k;
  auto* arranged = ctx.arena.alloc_array<float>(args.tokens * args.x_stride);
  const bool as_is = layout.order.empty() && layout.k_padded == k;
  auto* ordered = as_is ? nullptr : ctx.arena.alloc_array<float>(ctx.pool.num_threads() * args.k);
  ctx.pool.parallel_for(args.tokens, [&](int64_t token, int thread) {
    const float* row = x + token * k;
    if (!as_is) {
      float* out = ordered + thread * args.k;
      for (int64_t i = 0; i < k; ++i) out[i] = row[layout.order.empty() ? i : layout.order[i]];
      std::fill(out + k, out + args.k, 0.0F);
      row = out;
    }
    isa.arrange(args, row, arranged + token * args.x_stride);
  });
  return arranged;
}

ScaleType scale_type_of(const Tensor& scales) {
  if (scales.dtype() == DType::kF32) return ScaleType::kF32;
  return scales.dtype() == DType::kBF16 ? ScaleType::kBF16 : ScaleType::kF16;
}

GemmArgs part_args(const LinearWeight& weight, size_t part, View<float, 2> out, int64_t column) {
  const Layout& layout = layout_of(weight);
  const Tensor& scales = weight.tensors[scale_slot(weight, part)];
  GemmArgs args;
  args.words = reinterpret_cast<const uint8_t*>(weight.tensors[packed_slot(part)].raw());
  args.scales = scales.raw();
  args.type = scale_type_of(scales);
  if (layout.has_zeros) args.zeros = weight.tensors[zero_slot(weight, part)].data<uint8_t>();
  args.n = weight.spec.part_rows[part];
  args.k = layout.k_padded;
  args.group = layout.group;
  args.x_stride = w4a16_cpu::arranged_floats(args.k, args.group);
  args.tokens = out.size(0);
  args.out = out.data + column;
  args.out_stride = out.strides[0];
  return args;
}

void run(Context& ctx, const GemmIsa& isa, const LinearWeight& weight, const Activation& x,
         View<float, 2> out) {
  COMET_CHECK(out.size(0) == x.rows && out.size(1) == weight.spec.n() && out.strides[1] == 1,
              "{}: output is [{}, {}]", weight.spec.name, out.size(0), out.size(1));
  if (x.rows == 0) return;
  const ArenaScope scope(ctx.arena);
  auto* scratch = ctx.arena.alloc_array<float>(ctx.pool.num_threads() * w4a16_cpu::kScratchFloats);
  const float* arranged = nullptr;
  int64_t column = 0;
  for (size_t part = 0; part < weight.spec.parts.size(); ++part) {
    GemmArgs args = part_args(weight, part, out, column);
    if (arranged == nullptr) {
      arranged = arrange_inputs(ctx, isa, args, weight, x.parts[0].data<float>());
    }
    args.x = arranged;
    const int64_t step = rows_per_task(isa, args, ctx.pool.num_threads());
    ctx.pool.parallel_for((args.n + step - 1) / step, [&](int64_t task, int thread) {
      isa.rows(args, task * step, std::min(args.n, (task + 1) * step),
               scratch + thread * w4a16_cpu::kScratchFloats);
    });
    if (weight.spec.has_bias) add_bias(ctx, weight.tensors[bias_slot(weight, part)], out, column);
    column += args.n;
  }
}

/// ShortGroups takes over where several groups share a vector of words.
template <const GemmIsa& Isa, const GemmIsa& ShortGroups>
void run_isa(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  const bool is_short = layout_of(weight).group < Isa.vector_channels;
  run(ctx, is_short ? ShortGroups : Isa, weight, x, out.f32());
}

}  // namespace

std::span<const LinearKernel> kernels() {
  static const std::array<LinearKernel, 3> rows{{
      {"w4a16_portable", supports<CpuIsa::kPortable>, cost_us<CpuIsa::kPortable>,
       run_isa<w4a16_cpu::kPortableIsa, w4a16_cpu::kPortableIsa>},
      {"w4a16_avx2", supports<CpuIsa::kAvx2>, cost_us<CpuIsa::kAvx2>,
       run_isa<w4a16_cpu::kAvx2Isa, w4a16_cpu::kAvx2ShortGroupsIsa>},
      {"w4a16_avx512", supports<CpuIsa::kAvx512>, cost_us<CpuIsa::kAvx512>,
       run_isa<w4a16_cpu::kAvx512Isa, w4a16_cpu::kAvx512ShortGroupsIsa>},
  }};
  return rows;
}

}  // namespace comet::formats::w4a16
