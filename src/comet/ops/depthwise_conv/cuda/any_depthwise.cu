// Depthwise convolutions of any size of kernel, number of channels and alignment, and their
// gradients: a thread makes one output, a CTA the gradient of one tap of one channel. Off the path
// of the models we know: depthwise.cu and depthwise_grads.cu have theirs.
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/vectors.cuh"
#include "comet/ops/depthwise_conv/cuda/cut.h"

namespace comet::ops_cuda::depthwise {
namespace {

/// One output a thread, any size of kernel and number of channels.
template <bool kFlip>
__global__ void __launch_bounds__(kThreads) any_depthwise_kernel(DepthwiseArgs args) {
  const ImageSizes& sizes = args.sizes;
  const int64_t idx = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const auto channel = static_cast<int>(idx % sizes.channels);
  const int64_t pixel = idx / sizes.channels;
  const auto column = static_cast<int>(pixel % sizes.width);
  const int64_t line = pixel / sizes.width;
  const auto row = static_cast<int>(line % sizes.height);
  if (line / sizes.height >= sizes.num_images) return;
  const auto* x = static_cast<const uint16_t*>(args.x) + channel;
  const int taps = args.kernel_h * args.kernel_w;
  float sum = kFlip ? 0.0F : args.weights.bias[channel];
  for (int tap = 0; tap < taps; ++tap) {
    const int shift_y = tap / args.kernel_w - args.kernel_h / 2;
    const int shift_x = tap % args.kernel_w - args.kernel_w / 2;
    if (!is_within(row + shift_y, sizes.height) || !is_within(column + shift_x, sizes.width)) {
      continue;
    }
    const int64_t at = pixel + static_cast<int64_t>(shift_y) * sizes.width + shift_x;
    const int64_t used = kFlip ? taps - 1 - tap : tap;
    sum = fmaf(args.weights.weight[used * sizes.channels + channel],
               prims::f32_of_bf16(x[at * sizes.channels]), sum);
  }
  uint16_t* out = static_cast<uint16_t*>(args.out) + idx;
  if (kFlip) sum += prims::f32_of_bf16(*out);
  *out = static_cast<uint16_t>(prims::bf16x2_of(sum, 0.0F));
}

/// A CTA makes the gradient of one tap (or the bias) of one channel.
__global__ void __launch_bounds__(kThreads) any_dw_kernel(DepthwiseBackwardArgs args) {
  __shared__ float partial[32];
  const ImageSizes& sizes = args.forward.sizes;
  const int channel = static_cast<int>(blockIdx.x) % sizes.channels;
  const int tap = static_cast<int>(blockIdx.x) / sizes.channels;
  const int taps = args.forward.kernel_h * args.forward.kernel_w;
  const int shift_y = tap / args.forward.kernel_w - args.forward.kernel_h / 2;
  const int shift_x = tap % args.forward.kernel_w - args.forward.kernel_w / 2;
  const auto* x = static_cast<const uint16_t*>(args.forward.x) + channel;
  const auto* dy = static_cast<const uint16_t*>(args.dy) + channel;
  const int64_t num_pixels = static_cast<int64_t>(sizes.num_images) * sizes.height * sizes.width;
  float sum = 0.0F;
  for (int64_t i = threadIdx.x; i < num_pixels; i += kThreads) {
    const float grad = prims::f32_of_bf16(dy[i * sizes.channels]);
    if (tap == taps) {
      sum += grad;
      continue;
    }
    const int64_t line = i / sizes.width;
    const int row = static_cast<int>(line % sizes.height) + shift_y;
    const int column = static_cast<int>(i - line * sizes.width) + shift_x;
    if (!is_within(row, sizes.height) || !is_within(column, sizes.width)) continue;
    const int64_t at = i + static_cast<int64_t>(shift_y) * sizes.width + shift_x;
    sum = fmaf(grad, prims::f32_of_bf16(x[at * sizes.channels]), sum);
  }
  sum = block_sum(sum, partial);
  if (threadIdx.x != 0) return;
  float* to = tap == taps
                  ? args.grads.bias + channel
                  : args.grads.weight + static_cast<int64_t>(tap) * sizes.channels + channel;
  *to += sum;
}

}  // namespace

template <bool kFlip>
void launch_any(const DepthwiseArgs& args, CUstream_st* stream) {
  const ImageSizes& sizes = args.sizes;
  const int64_t num = int64_t{sizes.num_images} * sizes.height * sizes.width * sizes.channels;
  const auto num_ctas = static_cast<unsigned>((num + kThreads - 1) / kThreads);
  any_depthwise_kernel<kFlip><<<num_ctas, kThreads, 0, stream>>>(args);
  COMET_CUDA(cudaGetLastError());
}

template void launch_any<false>(const DepthwiseArgs& args, CUstream_st* stream);
template void launch_any<true>(const DepthwiseArgs& args, CUstream_st* stream);

void launch_any_grads(const DepthwiseBackwardArgs& args, CUstream_st* stream) {
  const int64_t taps = int64_t{args.forward.kernel_h} * args.forward.kernel_w;
  const auto num_ctas = static_cast<unsigned>((taps + 1) * args.forward.sizes.channels);
  any_dw_kernel<<<num_ctas, kThreads, 0, stream>>>(args);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::ops_cuda::depthwise
