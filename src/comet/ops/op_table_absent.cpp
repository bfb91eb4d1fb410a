// Linked in place of the CUDA operators when they are not built.
#include "comet/ops/context.h"
#include "comet/ops/op_table.h"

namespace comet {

const OpTable& cuda_op_table() {
  COMET_CHECK(false, "a build without CUDA has no operators for a GPU");
}

Tensor copy_to_device(Context& ctx, const Tensor& host) {
  COMET_CHECK(ctx.cuda == nullptr, "a build without CUDA has no GPU");
  return host;
}

void write_to_gpu(Context& /*ctx*/, const Tensor& /*device*/, const Tensor& /*host*/) {
  COMET_CHECK(false, "a build without CUDA has no GPU");
}

Tensor copy_to_host(Context& /*ctx*/, const Tensor& device) { return device; }

}  // namespace comet
