// From tensors to launches on ctx.cuda->stream.
#include "comet/device/cuda/cuda_resources.h"
#include "comet/ops/fill/cuda/fill.h"
#include "comet/ops/fill/fill.h"

namespace comet {

void random_fill_cuda(Context& ctx, const Tensor& out, const RandomFill& fill) {
  ops_cuda::RandomFillArgs args;
  args.kind = fill.kind;
  args.out = out.raw();
  args.count = fill.kind == RandomKind::kTable16 ? out.num_elements() : out.num_bytes();
  args.seed = fill.seed;
  args.stream = fill.stream;
  if (fill.table.defined()) args.table = reinterpret_cast<const uint16_t*>(fill.table.raw());
  launch_random_fill(args, ctx.cuda->stream);
}

}  // namespace comet
