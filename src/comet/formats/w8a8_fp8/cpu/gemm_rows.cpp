// Kernel rows of w8a8-fp8 on the CPU: the dense kernels over E4M3 codes, which widen exactly to
// FP32, and the scales of channel and token behind them. Products are exact, sums are FP32.
#include <algorithm>

#include "comet/formats/cpu/isa_row.h"
#include "comet/formats/cpu/task_rows.h"
#include "comet/formats/dense/cpu/gemm_args.h"
#include "comet/formats/float_input.h"
#include "comet/formats/w8a8/channel_codes.h"
#include "comet/formats/w8a8_fp8/w8a8_fp8.h"

namespace comet::formats::w8a8_fp8 {
namespace {

using dense_cpu::GemmArgs;
using dense_cpu::GemmIsa;

constexpr float kUnwiden = 65536.0F;  // both operands carry 2⁻⁸

int64_t rows_per_task(const GemmArgs& args, int num_threads) {
  if (args.tokens > dense_cpu::few_tokens_limit(args.type)) return dense_cpu::kStripRows;
  return decode_task_rows(args.n, num_threads);
}

const float* arrange_inputs(Context& ctx, const GemmIsa& isa, const GemmArgs& args,
                            const Activation& x) {
  const auto* codes = reinterpret_cast<const uint8_t*>(x.parts[kCodes].raw());
  auto* arranged = ctx.arena.alloc_array<float>(args.tokens * args.x_stride);
  ctx.pool.parallel_for(args.tokens, [&](int64_t token, int) {
    isa.arrange_e4m3(args, codes + token * args.k, arranged + token * args.x_stride);
  });
  return arranged;
}

/// Sums of rows [begin, end) → outputs.
void apply_scales(const GemmArgs& args, const float* w_scale, const float* x_scale, int64_t begin,
                  int64_t end) {
  for (int64_t token = 0; token < args.tokens; ++token) {
    float* out = args.out + token * args.out_stride;
    const float scale = x_scale[token];
    for (int64_t i = begin; i < end; ++i) out[i] = w_scale[i] * (scale * (out[i] * kUnwiden));
  }
}

void run(Context& ctx, const GemmIsa& isa, const LinearWeight& weight, const Activation& x,
         View<float, 2> out) {
  COMET_CHECK(out.size(0) == x.rows && out.size(1) == weight.spec.n() && out.strides[1] == 1,
              "{}: output is [{}, {}]", weight.spec.name, out.size(0), out.size(1));
  if (x.rows == 0) return;
  const ArenaScope scope(ctx.arena);
  auto* scratch = ctx.arena.alloc_array<float>(ctx.pool.num_threads() * dense_cpu::kScratchFloats);
  GemmArgs args;
  args.type = dense_cpu::WeightType::kE4M3;
  args.k = weight.spec.k;
  args.k_arranged = (args.k + dense_cpu::kArrangedMultiple - 1) / dense_cpu::kArrangedMultiple *
                    dense_cpu::kArrangedMultiple;
  args.x_stride = args.k_arranged + dense_cpu::kStridePadding;
  args.tokens = x.rows;
  args.out_stride = out.strides[0];
  args.x = arrange_inputs(ctx, isa, args, x);
  const auto* x_scale = x.parts[kScales].data<float>();
  int64_t column = 0;
  for (size_t part = 0; part < weight.spec.parts.size(); ++part) {
    args.weight = weight.tensors[part].raw();
    args.n = weight.spec.part_rows[part];
    args.out = out.data + column;
    const float* w_scale = w8a8::scales_of(weight) + column;
    const int64_t step = rows_per_task(args, ctx.pool.num_threads());
    ctx.pool.parallel_for((args.n + step - 1) / step, [&](int64_t task, int thread) {
      const int64_t begin = task * step;
      const int64_t end = std::min(args.n, begin + step);
      isa.rows(args, begin, end, scratch + thread * dense_cpu::kScratchFloats);
      apply_scales(args, w_scale, x_scale, begin, end);
    });
    if (weight.spec.has_bias) add_bias(ctx, w8a8::bias_of(weight, part), out, column);
    column += args.n;
  }
}

template <const GemmIsa& Isa>
void run_isa(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  run(ctx, Isa, weight, x, out.f32());
}

}  // namespace

std::span<const LinearKernel> kernels() {
  static const std::array<LinearKernel, 3> rows{{
      {"w8a8_fp8_portable", supports<CpuIsa::kPortable>, cost_us<CpuIsa::kPortable>,
       run_isa<dense_cpu::kPortableIsa>},
      {"w8a8_fp8_avx2", supports<CpuIsa::kAvx2>, cost_us<CpuIsa::kAvx2>,
       run_isa<dense_cpu::kAvx2Isa>},
      {"w8a8_fp8_avx512", supports<CpuIsa::kAvx512>, cost_us<CpuIsa::kAvx512>,
       run_isa<dense_cpu::kAvx512Isa>},
  }};
  return rows;
}

}  // namespace comet::formats::w8a8_fp8
