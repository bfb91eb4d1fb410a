// Kernel rows of "dense" on the CPU: arrange the inputs, split the output channels over the pool.
#include <algorithm>

#include "comet/formats/cpu/isa_row.h"
#include "comet/formats/cpu/task_rows.h"
#include "comet/formats/dense/cpu/gemm_args.h"
#include "comet/formats/dense/dense.h"
#include "comet/formats/float_input.h"
#include "comet/ops/parallel_rows.h"

namespace comet::formats {
namespace {

using dense_cpu::GemmArgs;
using dense_cpu::GemmIsa;
using dense_cpu::WeightType;

WeightType weight_type(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return WeightType::kBF16;
    case DType::kF16:
      return WeightType::kF16;
    default:
      COMET_CHECK(dtype == DType::kF32, "dense weight of {}", dtype_name(dtype));
      return WeightType::kF32;
  }
}

int64_t rows_per_task(const GemmArgs& args, int num_threads) {
  if (args.tokens > dense_cpu::few_tokens_limit(args.type)) return dense_cpu::kStripRows;
  return decode_task_rows(args.n, num_threads);
}

/// Input rows in the order that the kernel reads them; one copy per weight type.
const float* arrange_inputs(Context& ctx, const GemmIsa& isa, const GemmArgs& args,
                            const float* x) {
  auto* arranged = ctx.arena.alloc_array<float>(args.tokens * args.x_stride);
  parallel_rows(ctx, args.tokens, args.k, [&](int64_t token) {
    isa.arrange(args, x + token * args.k, arranged + token * args.x_stride);
  });
  return arranged;
}

void run(Context& ctx, const GemmIsa& isa, const LinearWeight& weight, const Activation& x,
         View<float, 2> out) {
  const size_t num_parts = weight.spec.parts.size();
  COMET_CHECK(out.size(0) == x.rows && out.size(1) == weight.spec.n() && out.strides[1] == 1,
              "{}: output is [{}, {}]", weight.spec.name, out.size(0), out.size(1));
  if (x.rows == 0) return;
  const ArenaScope scope(ctx.arena);
  auto* scratch = ctx.arena.alloc_array<float>(ctx.pool.num_threads() * dense_cpu::kScratchFloats);
  std::array<const float*, 3> arranged{};
  int64_t column = 0;
  for (size_t part = 0; part < num_parts; ++part) {
    const Tensor& w = weight.tensors[part];
    GemmArgs args;
    args.weight = w.raw();
    args.type = weight_type(w.dtype());
    args.n = w.size(0);
    args.k = w.size(1);
    args.k_arranged = (args.k + dense_cpu::kArrangedMultiple - 1) / dense_cpu::kArrangedMultiple *
                      dense_cpu::kArrangedMultiple;
    args.x_stride = args.k_arranged + dense_cpu::kStridePadding;
    args.tokens = x.rows;
    args.out = out.data + column;
    args.out_stride = out.strides[0];
    const float*& inputs = arranged[static_cast<size_t>(args.type)];
    if (inputs == nullptr) inputs = arrange_inputs(ctx, isa, args, x.parts[0].data<float>());
    args.x = inputs;
    const int64_t step = rows_per_task(args, ctx.pool.num_threads());
    ctx.pool.parallel_for((args.n + step - 1) / step, [&](int64_t task, int thread) {
      isa.rows(args, task * step, std::min(args.n, (task + 1) * step),
               scratch + thread * dense_cpu::kScratchFloats);
    });
    if (weight.spec.has_bias) add_bias(ctx, weight.tensors[num_parts + part], out, column);
    column += args.n;
  }
}

template <const GemmIsa& Isa>
void run_isa(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out) {
  run(ctx, Isa, weight, x, out.f32());
}

}  // namespace

std::span<const LinearKernel> dense_kernels() {
  static const std::array<LinearKernel, 4> rows{{
      {"dense_portable", supports<CpuIsa::kPortable>, cost_us<CpuIsa::kPortable>,
       run_isa<dense_cpu::kPortableIsa>},
      {"dense_avx2", supports<CpuIsa::kAvx2>, cost_us<CpuIsa::kAvx2>, run_isa<dense_cpu::kAvx2Isa>},
      {"dense_avx512", supports<CpuIsa::kAvx512>, cost_us<CpuIsa::kAvx512>,
       run_isa<dense_cpu::kAvx512Isa>},
      dense_packed_kernel(),
  }};
  return rows;
}

}  // namespace comet::formats
