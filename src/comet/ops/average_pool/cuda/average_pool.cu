// out [images, channels] = the mean over the pixels of x [images, pixels, channels], and its
// gradient dx = dy / pixels.
// Grid: pooling: a thread per channel of an image, pixels in order, FP32: the same bits for every
// launch. Gradient: a thread per span of 8 elements. Floor: bytes of x at copy rate (7×7×768 at 128
// images: 10 MB, 2 µs: launch latency).
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/image_launches.h"
#include "comet/ops/cuda/vectors.cuh"

namespace comet::ops_cuda {
namespace {

constexpr int kPoolThreads = 64;

__global__ void __launch_bounds__(kPoolThreads)
    average_pool_kernel(FloatRows out, const void* x, FloatType type, ImageSizes sizes) {
  const int channel = static_cast<int>(blockIdx.x * kPoolThreads + threadIdx.x);
  if (channel >= sizes.channels) return;
  const int num_pixels = sizes.height * sizes.width;
  const int64_t at = static_cast<int64_t>(blockIdx.y) * num_pixels * sizes.channels + channel;
  float sum = 0.0F;
#pragma unroll 8
  for (int pixel = 0; pixel < num_pixels; ++pixel) {
    sum += load_one(x, type, at + static_cast<int64_t>(pixel) * sizes.channels);
  }
  store_one(out.data, out.type, static_cast<int64_t>(blockIdx.y) * out.stride + channel,
            sum / static_cast<float>(num_pixels));
}

__global__ void __launch_bounds__(kThreads)
    average_pool_backward_kernel(void* dx, FloatType type, FloatRows dy, ImageSizes sizes,
                                 bool is_wide) {
  const int64_t num_pixels = static_cast<int64_t>(sizes.height) * sizes.width;
  const Span span = span_of_thread(sizes.num_images * num_pixels, sizes.channels);
  if (span.count == 0) return;
  const int64_t image = span.row / num_pixels;
  float v[kSpan];
  load_span(v, dy.data, dy.type, image * dy.stride + span.column, span.count, is_wide);
  const float count = static_cast<float>(num_pixels);
#pragma unroll
  for (int j = 0; j < kSpan; ++j) v[j] /= count;
  store_span(dx, type, span.row * sizes.channels + span.column, v, span.count, is_wide);
}

}  // namespace

void launch_average_pool(const FloatRows& out, const void* x, FloatType type,
                         const ImageSizes& sizes, CUstream_st* stream) {
  if (sizes.num_images == 0 || sizes.channels == 0) return;
  const dim3 grid(static_cast<unsigned>((sizes.channels + kPoolThreads - 1) / kPoolThreads),
                  static_cast<unsigned>(sizes.num_images));
  average_pool_kernel<<<grid, kPoolThreads, 0, stream>>>(out, x, type, sizes);
  COMET_CUDA(cudaGetLastError());
}

void launch_average_pool_backward(void* dx, FloatType type, const FloatRows& dy,
                                  const ImageSizes& sizes, CUstream_st* stream) {
  const int64_t rows = int64_t{sizes.num_images} * sizes.height * sizes.width;
  if (rows == 0 || sizes.channels == 0) return;
  const bool is_wide = has_wide_rows(dy) && has_wide_rows({dx, sizes.channels, type});
  average_pool_backward_kernel<<<span_blocks(rows, sizes.channels), kThreads, 0, stream>>>(
      dx, type, dy, sizes, is_wide);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::ops_cuda
