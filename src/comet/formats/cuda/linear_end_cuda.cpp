#include "comet/formats/cuda/linear_end.h"

#include "comet/device/cuda/cuda_resources.h"
#include "comet/ops/cuda/launches.h"
#include "comet/ops/op_table.h"

namespace comet::formats::cuda {
namespace {

ops_cuda::FloatRows rows_of(const Rows& rows) {
  COMET_CHECK(rows.dtype == DType::kF32 || rows.dtype == DType::kBF16, "output of {}",
              dtype_name(rows.dtype));
  return {rows.data, rows.stride,
          rows.dtype == DType::kF32 ? ops_cuda::FloatType::kF32 : ops_cuda::FloatType::kBF16};
}

}  // namespace

void run_then_end(Context& ctx, const LinearWeight& weight, const Activation& x, Rows out,
                  LinearEnd end, RunLinear run) {
  if (end != LinearEnd::kAdd) {
    run(ctx, weight, x, out);
    if (end == LinearEnd::kGelu) ctx.ops.gelu(ctx, out, out);
    return;
  }
  const ArenaScope scope(ctx.arena);
  const Rows product = ctx.arena.alloc(out.dtype, {out.num_rows, out.num_columns});
  run(ctx, weight, x, product);
  ops_cuda::launch_add({rows_of(out), rows_of(product), out.num_rows, out.num_columns},
                       ctx.cuda->stream);
}

}  // namespace comet::formats::cuda
