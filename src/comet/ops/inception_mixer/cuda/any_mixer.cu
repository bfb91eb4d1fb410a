// The Inception mixer of any band, number of channels and alignment: a thread makes one output.
// kFlip: out += the transposed mixer of x, for gradients. Off the path of the models we know:
// mixer.cu and mixer_backward.cu have theirs.
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/vectors.cuh"
#include "comet/ops/inception_mixer/cuda/cut.h"

namespace comet::ops_cuda::mixer {
namespace {

struct AnyKernel {
  int height = 1;
  int width = 1;
  KernelWeights weights;
};

__device__ __forceinline__ AnyKernel kernel_of(const MixerArgs& args, int branch) {
  if (branch == kSquare) return {3, 3, args.square};
  if (branch == kBandW) return {1, args.band, args.band_w};
  return {args.band, 1, args.band_h};
}

template <bool kFlip>
__global__ void __launch_bounds__(kThreads) any_mixer_kernel(MixerArgs args) {
  const ImageSizes& sizes = args.sizes;
  const int64_t idx = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const auto channel = static_cast<int>(idx % sizes.channels);
  const int64_t pixel = idx / sizes.channels;
  const auto column = static_cast<int>(pixel % sizes.width);
  const int64_t line = pixel / sizes.width;
  const auto row = static_cast<int>(line % sizes.height);
  if (line / sizes.height >= sizes.num_images) return;
  const auto* x = static_cast<const uint16_t*>(args.x) + channel;
  auto* out = static_cast<uint16_t*>(args.out) + idx;
  const int in_branches = channel - (sizes.channels - 3 * args.branch);
  float sum = 0.0F;
  if (in_branches < 0) {
    sum = prims::f32_of_bf16(x[pixel * sizes.channels]);
  } else {
    const AnyKernel kernel = kernel_of(args, in_branches / args.branch);
    const int within = in_branches % args.branch;
    const int taps = kernel.height * kernel.width;
    if (!kFlip) sum = kernel.weights.bias[within];
    for (int tap = 0; tap < taps; ++tap) {
      const int shift_y = tap / kernel.width - kernel.height / 2;
      const int shift_x = tap % kernel.width - kernel.width / 2;
      if (!is_within(row + shift_y, sizes.height) || !is_within(column + shift_x, sizes.width)) {
        continue;
      }
      const int64_t at = pixel + static_cast<int64_t>(shift_y) * sizes.width + shift_x;
      const int used = kFlip ? taps - 1 - tap : tap;
      sum = fmaf(kernel.weights.weight[static_cast<int64_t>(used) * args.branch + within],
                 prims::f32_of_bf16(x[at * sizes.channels]), sum);
    }
  }
  if (kFlip) sum += prims::f32_of_bf16(*out);
  *out = static_cast<uint16_t>(prims::bf16x2_of(sum, 0.0F));
}

/// Gradients of a kernel of any size: a CTA makes those of one tap (or the bias) of one channel.
struct AnyGradArgs {
  const void* x = nullptr;
  const void* dy = nullptr;
  ImageSizes sizes;
  int32_t first_channel = 0;
  int32_t branch = 0;
  int32_t kernel_h = 0;
  int32_t kernel_w = 0;
  KernelGrads grads;
};

__global__ void __launch_bounds__(kThreads) any_grad_kernel(AnyGradArgs args) {
  __shared__ float partial[32];
  const int channel = static_cast<int>(blockIdx.x) % args.branch;
  const int tap = static_cast<int>(blockIdx.x) / args.branch;
  const int taps = args.kernel_h * args.kernel_w;
  const int shift_y = tap / args.kernel_w - args.kernel_h / 2;
  const int shift_x = tap % args.kernel_w - args.kernel_w / 2;
  const ImageSizes& sizes = args.sizes;
  const auto* x = static_cast<const uint16_t*>(args.x) + args.first_channel + channel;
  const auto* dy = static_cast<const uint16_t*>(args.dy) + args.first_channel + channel;
  const int64_t num_pixels = static_cast<int64_t>(sizes.num_images) * sizes.height * sizes.width;
  float sum = 0.0F;
  for (int64_t i = threadIdx.x; i < num_pixels; i += kThreads) {
    const float grad = prims::f32_of_bf16(dy[i * sizes.channels]);
    if (tap == taps) {
      sum += grad;
      continue;
    }
    const auto in_image = static_cast<int>(i % (static_cast<int64_t>(sizes.height) * sizes.width));
    const int row = in_image / sizes.width + shift_y;
    const int column = in_image % sizes.width + shift_x;
    if (!is_within(row, sizes.height) || !is_within(column, sizes.width)) continue;
    const int64_t at = i + static_cast<int64_t>(shift_y) * sizes.width + shift_x;
    sum = fmaf(grad, prims::f32_of_bf16(x[at * sizes.channels]), sum);
  }
  sum = block_sum(sum, partial);
  if (threadIdx.x != 0) return;
  float* to = tap == taps ? args.grads.bias + channel
                          : args.grads.weight + static_cast<int64_t>(tap) * args.branch + channel;
  *to += sum;
}

template <bool kFlip>
void launch_any_mixer(const MixerArgs& args, CUstream_st* stream) {
  const ImageSizes& sizes = args.sizes;
  const int64_t num = int64_t{sizes.num_images} * sizes.height * sizes.width * sizes.channels;
  const auto num_ctas = static_cast<unsigned>((num + kThreads - 1) / kThreads);
  any_mixer_kernel<kFlip><<<num_ctas, kThreads, 0, stream>>>(args);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace

void launch_any_forward(const MixerArgs& args, CUstream_st* stream) {
  launch_any_mixer<false>(args, stream);
}

void launch_any_backward(const MixerBackwardArgs& args, CUstream_st* stream) {
  MixerArgs transposed = args.forward;
  transposed.out = args.dx;
  transposed.x = args.dy;
  launch_any_mixer<true>(transposed, stream);
  if (args.forward.branch == 0) return;
  const int num_kept = args.forward.sizes.channels - 3 * args.forward.branch;
  const auto launch_grads = [&](int branch_idx, int kernel_h, int kernel_w, KernelGrads grads) {
    const AnyGradArgs any{args.forward.x,
                          args.dy,
                          args.forward.sizes,
                          num_kept + branch_idx * args.forward.branch,
                          args.forward.branch,
                          kernel_h,
                          kernel_w,
                          grads};
    const auto num_ctas = static_cast<unsigned>((kernel_h * kernel_w + 1) * args.forward.branch);
    any_grad_kernel<<<num_ctas, kThreads, 0, stream>>>(any);
    COMET_CUDA(cudaGetLastError());
  };
  launch_grads(0, 3, 3, args.square);
  launch_grads(1, 1, args.forward.band, args.band_w);
  launch_grads(2, args.forward.band, 1, args.band_h);
}

}  // namespace comet::ops_cuda::mixer
