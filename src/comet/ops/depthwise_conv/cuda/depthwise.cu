// Depthwise convolution of BF16 NHWC images, FP32 sums, and its gradients (kFlip: out += the
// transposed convolution). depthwise_kernel: a thread makes 2 rows × 7 columns of 2 channels
// (kernel size 7), so that an
//   input is loaded once for up to 28 products; neighbours' overlap comes from L1. Any other size:
//   a thread makes one output.
// dw_kernel: a CTA takes 64 channels and rows blockIdx.x, + gridDim.x, … of all images; a warp
// takes
//   a row of the kernel, a lane two channels, whose sums stay in its registers: nothing to reduce
//   but the CTAs' partials [49 taps, bias][channels] (sum_partials.cu). No atomics.
// Floor for 7×7: 49 FMA an output: stage 1 of ConvNeXt-T at 128 images 1.9 GFMA, 63 µs at 30
// TFMA/s, above the 36 µs of its 154 MB at 4.3 TB/s.
#include <cuda_runtime_api.h>

#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/bf16_vectors.cuh"
#include "comet/ops/cuda/image_launches.h"
#include "comet/ops/cuda/vectors.cuh"

namespace comet::ops_cuda {
namespace {

constexpr int kSize = 7;
constexpr int kHalf = kSize / 2;
constexpr int kColumns = 7;  // of outputs of a thread
constexpr int kRows = 2;
constexpr int kVec = 2;

__device__ __forceinline__ bool is_within(int i, int limit) {
  return static_cast<unsigned>(i) < static_cast<unsigned>(limit);
}

/// inputs[i] = channels of pixel first + i of a row; zeros outside of it.
__device__ __forceinline__ void load_row(float (&inputs)[kColumns + kSize - 1][kVec],
                                         const uint16_t* row, int first, const ImageSizes& sizes,
                                         bool has_row) {
#pragma unroll
  for (int i = 0; i < kColumns + kSize - 1; ++i) {
    const int at = first + i;
    load_channels_if(inputs[i], row + static_cast<int64_t>(at) * sizes.channels,
                     has_row && is_within(at, sizes.width));
  }
}

/// What a thread makes, from its place in the grid: channels fastest, then strips, row pairs,
/// images.
struct Strip {
  int channel = 0;
  int column = 0;
  int row = 0;
  int64_t image_at = 0;
  bool exists = false;
};

__device__ __forceinline__ Strip strip_of_thread(const ImageSizes& sizes) {
  const auto vecs = static_cast<uint32_t>(sizes.channels / kVec);
  const auto strips = static_cast<uint32_t>((sizes.width + kColumns - 1) / kColumns);
  const auto pairs = static_cast<uint32_t>((sizes.height + kRows - 1) / kRows);
  const uint32_t idx = blockIdx.x * blockDim.x + threadIdx.x;
  const uint32_t place = idx / vecs;
  const uint32_t line = place / strips;
  const uint32_t image = line / pairs;
  Strip strip;
  strip.channel = static_cast<int>(idx - place * vecs) * kVec;
  strip.column = static_cast<int>(place - line * strips) * kColumns;
  strip.row = static_cast<int>(line - image * pairs) * kRows;
  strip.image_at = static_cast<int64_t>(image) * sizes.height * sizes.width * sizes.channels;
  strip.exists = image < static_cast<uint32_t>(sizes.num_images);
  return strip;
}

template <bool kFlip>
__global__ void __launch_bounds__(kThreads, 2) depthwise_kernel(DepthwiseArgs args) {
  const ImageSizes& sizes = args.sizes;
  const Strip strip = strip_of_thread(sizes);
  if (!strip.exists) return;
  const int channels = sizes.channels;
  const uint16_t* x = static_cast<const uint16_t*>(args.x) + strip.image_at + strip.channel;
  const float* weight = args.weights.weight + strip.channel;
  float sums[kRows][kColumns][kVec] = {};
  if (!kFlip) {
    float bias[kVec];
    load_weights(bias, args.weights.bias + strip.channel);
#pragma unroll
    for (int i = 0; i < kRows * kColumns * kVec; ++i) {
      sums[i / (kColumns * kVec)][i / kVec % kColumns][i % kVec] = bias[i % kVec];
    }
  }
#pragma unroll 1  // more rows at once take more registers than there are
  for (int i = 0; i < kSize + kRows - 1; ++i) {
    const int row = strip.row - kHalf + i;
    float inputs[kColumns + kSize - 1][kVec];
    load_row(inputs, x + static_cast<int64_t>(row) * sizes.width * channels, strip.column - kHalf,
             sizes, is_within(row, sizes.height));
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (i - r < 0 || i - r >= kSize) continue;
#pragma unroll
      for (int t = 0; t < kSize; ++t) {
        const int tap = (i - r) * kSize + t;
        float w[kVec];
        load_weights(w, weight + (kFlip ? kSize * kSize - 1 - tap : tap) * channels);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) fma_channels(sums[r][c], w, inputs[c + t]);
      }
    }
  }
  uint16_t* out = static_cast<uint16_t*>(args.out) + strip.image_at + strip.channel;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (strip.row + r >= sizes.height || strip.column + c >= sizes.width) continue;
      const int64_t pixel = static_cast<int64_t>(strip.row + r) * sizes.width + strip.column + c;
      if constexpr (kFlip) {
        add_channels(out + pixel * channels, sums[r][c]);
      } else {
        store_channels(out + pixel * channels, sums[r][c]);
      }
    }
  }
}

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

constexpr int kChunkChannels = 64;  // of a CTA of dw_kernel
constexpr int kMaxCtas = 528;       // four on each of 132 SMs
constexpr int kNumSums = kSize * kSize + 1;

__global__ void __launch_bounds__(32 * kSize)
    dw_kernel(const uint16_t* x, const uint16_t* dy, ImageSizes sizes, float* partials) {
  const int ky = static_cast<int>(threadIdx.x) / 32;
  const int channel =
      static_cast<int>(blockIdx.y) * kChunkChannels + static_cast<int>(threadIdx.x) % 32 * kVec;
  if (channel >= sizes.channels) return;
  float sums[kSize][kVec] = {};
  float bias[kVec] = {};
  const int num_rows = sizes.num_images * sizes.height;
  const int64_t pitch = static_cast<int64_t>(sizes.width) * sizes.channels;
  for (int line = static_cast<int>(blockIdx.x); line < num_rows;
       line += static_cast<int>(gridDim.x)) {
    const int row = line % sizes.height + ky - kHalf;
    const bool has_row = is_within(row, sizes.height);
    if (!has_row) continue;  // the middle row of the kernel, which sums the bias, always is
    const uint16_t* grad_row = dy + line * pitch + channel;
    const uint16_t* x_row = x + (line + ky - kHalf) * pitch + channel;
    for (int column = 0; column < sizes.width; column += kColumns) {
      float inputs[kColumns + kSize - 1][kVec];
      load_row(inputs, x_row, column - kHalf, sizes, true);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        float grad[kVec];
        load_channels_if(grad, grad_row + static_cast<int64_t>(column + c) * sizes.channels,
                         column + c < sizes.width);
#pragma unroll
        for (int t = 0; t < kSize; ++t) fma_channels(sums[t], grad, inputs[c + t]);
#pragma unroll
        for (int i = 0; i < kVec; ++i) bias[i] += grad[i];
      }
    }
  }
  float* to = partials + static_cast<int64_t>(blockIdx.x) * kNumSums * sizes.channels + channel;
#pragma unroll
  for (int t = 0; t < kSize; ++t) {
#pragma unroll
    for (int i = 0; i < kVec; ++i) to[(ky * kSize + t) * sizes.channels + i] = sums[t][i];
  }
  if (ky != kHalf) return;
#pragma unroll
  for (int i = 0; i < kVec; ++i) to[kSize * kSize * sizes.channels + i] = bias[i];
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

bool is_empty(const ImageSizes& sizes) {
  return sizes.num_images == 0 || sizes.height == 0 || sizes.width == 0 || sizes.channels == 0;
}

bool is_quick(const DepthwiseArgs& args, const void* other) {
  const auto at = reinterpret_cast<uintptr_t>(args.x) | reinterpret_cast<uintptr_t>(other);
  return args.kernel_h == kSize && args.kernel_w == kSize && args.sizes.channels % kVec == 0 &&
         at % 4 == 0;
}

template <bool kFlip>
void launch_conv(const DepthwiseArgs& args, CUstream_st* stream) {
  const ImageSizes& sizes = args.sizes;
  const auto blocks = [](int64_t threads) {
    return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
  };
  if (is_quick(args, args.out)) {
    const int64_t strips = (sizes.width + kColumns - 1) / kColumns;
    const int64_t pairs = (sizes.height + kRows - 1) / kRows;
    const int64_t threads = sizes.num_images * pairs * strips * (sizes.channels / kVec);
    depthwise_kernel<kFlip><<<blocks(threads), kThreads, 0, stream>>>(args);
  } else {
    const int64_t threads = int64_t{sizes.num_images} * sizes.height * sizes.width * sizes.channels;
    any_depthwise_kernel<kFlip><<<blocks(threads), kThreads, 0, stream>>>(args);
  }
  COMET_CUDA(cudaGetLastError());
}

int num_chunks(const ImageSizes& sizes) {
  return (sizes.channels + kChunkChannels - 1) / kChunkChannels;
}

int num_partials(const ImageSizes& sizes) {
  return std::clamp(kMaxCtas / num_chunks(sizes), 1, sizes.num_images * sizes.height);
}

}  // namespace

void launch_depthwise_conv(const DepthwiseArgs& args, CUstream_st* stream) {
  if (is_empty(args.sizes)) return;
  launch_conv<false>(args, stream);
}

size_t depthwise_backward_workspace(const DepthwiseArgs& forward) {
  if (is_empty(forward.sizes)) return 0;
  return static_cast<size_t>(num_partials(forward.sizes)) * kNumSums *
         static_cast<size_t>(forward.sizes.channels);
}

void launch_depthwise_conv_backward(const DepthwiseBackwardArgs& args, CUstream_st* stream) {
  const ImageSizes& sizes = args.forward.sizes;
  if (is_empty(sizes)) return;
  DepthwiseArgs transposed = args.forward;
  transposed.out = args.dx;
  transposed.x = args.dy;
  launch_conv<true>(transposed, stream);
  if (!is_quick(args.forward, args.dy)) {
    const int64_t taps = int64_t{args.forward.kernel_h} * args.forward.kernel_w;
    any_dw_kernel<<<static_cast<unsigned>((taps + 1) * sizes.channels), kThreads, 0, stream>>>(
        args);
    COMET_CUDA(cudaGetLastError());
    return;
  }
  const int num_rows = num_partials(sizes);
  const dim3 grid(static_cast<unsigned>(num_rows), static_cast<unsigned>(num_chunks(sizes)));
  dw_kernel<<<grid, 32 * kSize, 0, stream>>>(static_cast<const uint16_t*>(args.forward.x),
                                             static_cast<const uint16_t*>(args.dy), sizes,
                                             args.workspace);
  COMET_CUDA(cudaGetLastError());
  launch_sum_partials({{args.grads.weight, int64_t{kSize * kSize} * sizes.channels},
                       {args.grads.bias, sizes.channels}},
                      args.workspace, num_rows, stream);
}

}  // namespace comet::ops_cuda
