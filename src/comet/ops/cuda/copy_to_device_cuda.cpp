#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/ops/context.h"

namespace comet {

Tensor copy_to_device(Context& ctx, const Tensor& host) {
  if (ctx.cuda == nullptr || !host.defined()) return host;
  COMET_CHECK(host.contiguous(), "tensor {} has strides", host.shape().to_string());
  const auto num_bytes = static_cast<size_t>(host.num_bytes());
  const auto storage = std::make_shared<Storage>(ctx.memory, num_bytes);
  COMET_CUDA(cudaMemcpy(storage->data(), host.raw(), num_bytes, cudaMemcpyDefault));
  return {storage, 0, host.dtype(), host.shape()};
}

}  // namespace comet
