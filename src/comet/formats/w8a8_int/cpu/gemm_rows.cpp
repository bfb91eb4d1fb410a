// Kernel rows of w8a8-int on the CPU: split the output channels over the pool.
#include <algorithm>
#include <numeric>

#include "comet/formats/cpu/isa_row.h"
#include "comet/formats/cpu/task_rows.h"
#include "comet/formats/float_input.h"
#include "comet/formats/w8a8/channel_codes.h"
#include "comet/formats/w8a8_int/cpu/gemm_args.h"
#include "comet/formats/w8a8_int/w8a8_int.h"

namespace comet::formats::w8a8_int {
namespace {

using cpu::GemmArgs;
using cpu::GemmIsa;

int64_t rows_per_task(const GemmArgs& args, int num_threads) {
  if (args.tokens > cpu::kFewTokens) return cpu::kStripRows;
  return decode_task_rows(args.n, num_threads);
}

const int32_t* code_sums(Context& ctx, const Activation& x) {
  const int64_t blocks = x.parts[kBlockSums].size(1);
  const int32_t* block_sums = x.parts[kBlockSums].data<int32_t>();
  auto* sums = ctx.arena.alloc_array<int32_t>(x.rows);
  for (int64_t t = 0; t < x.rows; ++t) {
    sums[t] = std::accumulate(block_sums + t * blocks, block_sums + (t + 1) * blocks, 0);
  }
  return sums;
}

const int16_t* widen(Context& ctx, const GemmArgs& args) {
  auto* wide =
      reinterpret_cast<int16_t*>(ctx.arena.alloc_array<uint8_t>(args.tokens * args.k_padded * 2));
  ctx.pool.parallel_for(args.tokens, [&](int64_t token, int) {
    const int64_t begin = token * args.k_padded;
    std::copy_n(args.codes + begin, args.k_padded, wide + begin);
  });
  return wide;
}

void run(Context& ctx, const GemmIsa& isa, const LinearWeight& weight, const Activation& x,
         View<float, 2> out) {
  const size_t num_parts = weight.spec.parts.size();
  COMET_CHECK(out.size(0) == x.rows && out.size(1) == weight.spec.n() && out.strides[1] == 1,
              "{}: output is [{}, {}]", weight.spec.name, out.size(0), out.size(1));
  if (x.rows == 0) return;
  const ArenaScope scope(ctx.arena);
  GemmArgs args;
  args.k = weight.spec.k;
  args.codes = x.parts[kCodes].data<int8_t>();
  args.k_padded = x.parts[kCodes].size(1);
  args.x_scale = x.parts[kScales].data<float>();
  args.x_sum = code_sums(ctx, x);
  args.tokens = x.rows;
  args.out_stride = out.strides[0];
  if (isa.wide_codes) args.wide = widen(ctx, args);
  constexpr int64_t kTotals = cpu::kStripTokens * cpu::kStripRows;
  auto* strips = ctx.arena.alloc_array<uint8_t>(ctx.pool.num_threads() * cpu::kStripBytes);
  auto* totals =
      reinterpret_cast<uint32_t*>(ctx.arena.alloc_array<int32_t>(ctx.pool.num_threads() * kTotals));
  int64_t column = 0;
  for (size_t part = 0; part < num_parts; ++part) {
    args.weight = weight.tensors[part].data<int8_t>();
    args.scale = w8a8::scales_of(weight) + column;
    args.n = weight.spec.part_rows[part];
    args.out = out.data + column;
    const int64_t step = rows_per_task(args, ctx.pool.num_threads());
    ctx.pool.parallel_for((args.n + step - 1) / step, [&](int64_t task, int thread) {
      isa.rows(args, task * step, std::min(args.n, (task + 1) * step),
               {strips + thread * cpu::kStripBytes, totals + thread * kTotals});
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
  static const std::array<LinearKernel, 2> packed = packed_kernels();
  static const std::array<LinearKernel, 6> rows{{
      {"w8a8_int_portable", supports<CpuIsa::kPortable>, cost_us<CpuIsa::kPortable>,
       run_isa<cpu::kPortableIsa>},
      {"w8a8_int_avx2", supports<CpuIsa::kAvx2>, cost_us<CpuIsa::kAvx2>, run_isa<cpu::kAvx2Isa>},
      {"w8a8_int_avx512", supports<CpuIsa::kAvx512>, cost_us<CpuIsa::kAvx512>,
       run_isa<cpu::kAvx512Isa>},
      {"w8a8_int_avx512vnni", supports<CpuIsa::kAvx512Vnni>, cost_us<CpuIsa::kAvx512Vnni>,
       run_isa<cpu::kAvx512VnniIsa>},
      packed[0],
      packed[1],
  }};
  return rows;
}

}  // namespace comet::formats::w8a8_int
