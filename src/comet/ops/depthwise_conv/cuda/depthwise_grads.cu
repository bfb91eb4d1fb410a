// Gradients of depthwise convolutions on BF16 NHWC images. dx += the transposed convolution of dy
// (depthwise.cu). dw[t] = Σ dy[p] · x[p + t − half] = Σ x[q] · dy[q − t + half], db = Σ dy:
// Grid of dw: x → as many CTAs as run at once, each taking tiles blockIdx.x, + gridDim.x, …; y →
// chunks of channels (tile.cuh). A thread keeps the sums of its channel in registers through all
// its tiles; then a CTA adds its threads' in shared memory and writes one row of partials [taps,
// bias][channels], and sum_partials adds the rows. No atomics.
// Floor of dw for 7×7: as the convolution, 63 µs for stage 1 of ConvNeXt-T at 128 images.
#include <cuda_runtime_api.h>

#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/depthwise_conv/cuda/cut.h"
#include "comet/ops/depthwise_conv/cuda/tile.cuh"

namespace comet::ops_cuda {
namespace depthwise {
namespace {

constexpr int kMaxCtas = 264;  // two on each of 132 SMs

/// Adds the sums of a channel's threads, in the order of their strips.
template <int kTaps, int kChunk>
__device__ __forceinline__ void write_partials(const float (&sums)[kTaps + 1], float* shared,
                                               int num_channels, float* partials) {
  constexpr int kStrips = kTileThreads / kChunk;
  __syncthreads();
#pragma unroll
  for (int t = 0; t <= kTaps; ++t) shared[t * kTileThreads + threadIdx.x] = sums[t];
  __syncthreads();
  const int in_chunk = static_cast<int>(threadIdx.x) % kChunk;
  const int channel = static_cast<int>(blockIdx.y) * kChunk + in_chunk;
  if (channel >= num_channels) return;
  for (int e = static_cast<int>(threadIdx.x) / kChunk; e <= kTaps; e += kStrips) {
    const int t = e == kTaps ? e : kTaps - 1 - e;  // the walk sees the kernel turned round
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kStrips; ++i) sum += shared[t * kTileThreads + i * kChunk + in_chunk];
    partials[e * num_channels + channel] = sum;
  }
}

template <int kSize, int kChunk>
__global__ void __launch_bounds__(kTileThreads, 2) dw_kernel(DepthwiseBackwardArgs args, Cut cut) {
  extern __shared__ __align__(16) uint16_t depthwise_tile[];
  constexpr int kTaps = kSize * kSize;
  const ImageSizes& sizes = args.forward.sizes;
  const int in_chunk = static_cast<int>(threadIdx.x) % kChunk;
  const int strip = static_cast<int>(threadIdx.x) / kChunk * kColumns;
  const int pitch = cut.by_halo_columns.divisor * kChunk;
  uint16_t* x_tile = depthwise_tile + (kRows + kSize - 1) * pitch;
  float sums[kTaps + 1] = {};
#pragma unroll 1
  for (int tile = static_cast<int>(blockIdx.x); tile < cut.num_tiles;
       tile += static_cast<int>(gridDim.x)) {
    const Place place = place_of(sizes, cut, tile);
    stage<kChunk>(depthwise_tile, args.dy, sizes, place, cut.by_halo_columns, kSize / 2);
    stage<kChunk>(x_tile, args.forward.x, sizes, place, cut.by_columns, 0);
    prims::cp_async_commit();
    prims::cp_async_wait<0>();
    __syncthreads();
    if (strip < cut.tile_columns) {
      float x[kRows][kColumns];
#pragma unroll
      for (int i = 0; i < kRows * kColumns; ++i) {
        const int at = i / kColumns * cut.tile_columns + strip + i % kColumns;
        x[i / kColumns][i % kColumns] = prims::f32_of_bf16(x_tile[at * kChunk + in_chunk]);
      }
      for_products<kSize, kChunk>(depthwise_tile + strip * kChunk + in_chunk, pitch,
                                  [&](int r, int c, int tap, float v) {
                                    sums[tap] = fmaf(x[r][c], v, sums[tap]);
                                    if (tap == kTaps / 2) sums[kTaps] += v;  // where x is
                                  });
    }
    __syncthreads();  // before the next tile is copied over this one
  }
  write_partials<kTaps, kChunk>(
      sums, reinterpret_cast<float*>(depthwise_tile), sizes.channels,
      args.workspace + static_cast<int64_t>(blockIdx.x) * (kTaps + 1) * sizes.channels);
}

int num_partials(const Cut& cut, int num_chunks) {
  return std::clamp(kMaxCtas / num_chunks, 1, cut.num_tiles);
}

template <int kSize, int kChunk>
void launch_dw(const DepthwiseBackwardArgs& args, CUstream_st* stream) {
  const ImageSizes& sizes = args.forward.sizes;
  const Cut cut = cut_of(sizes, kChunk, kSize);
  const int tile_bytes =
      (tile_elements(cut, kChunk, kSize) + kRows * cut.tile_columns * kChunk) * 2;
  const int sums_bytes = (kSize * kSize + 1) * kTileThreads * static_cast<int>(sizeof(float));
  const int shared_bytes = std::max(tile_bytes, sums_bytes);
  const int num_chunks = ceil_div(sizes.channels, kChunk);
  const int num_ctas = num_partials(cut, num_chunks);
  const auto kernel = dw_kernel<kSize, kChunk>;
  COMET_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  const dim3 grid(static_cast<unsigned>(num_ctas), static_cast<unsigned>(num_chunks));
  kernel<<<grid, kTileThreads, static_cast<size_t>(shared_bytes), stream>>>(args, cut);
  COMET_CUDA(cudaGetLastError());
  launch_sum_partials({{args.grads.weight, int64_t{kSize * kSize} * sizes.channels},
                       {args.grads.bias, sizes.channels}},
                      args.workspace, num_ctas, stream);
}

}  // namespace
}  // namespace depthwise

size_t depthwise_backward_workspace(const DepthwiseArgs& forward) {
  const int64_t taps = int64_t{forward.kernel_h} * forward.kernel_w;
  const int least_chunks = depthwise::ceil_div(std::max(1, forward.sizes.channels), 128);
  const int64_t rows = std::max(1, depthwise::kMaxCtas / least_chunks);
  return static_cast<size_t>(rows * (taps + 1) * forward.sizes.channels);
}

void launch_depthwise_conv_backward(const DepthwiseBackwardArgs& args, CUstream_st* stream) {
  if (is_empty(args.forward.sizes)) return;
  DepthwiseArgs transposed = args.forward;
  transposed.out = args.dx;
  transposed.x = args.dy;
  depthwise::launch_transposed(transposed, stream);
  if (!depthwise::is_tiled(args.forward, args.dy)) return depthwise::launch_any_grads(args, stream);
  depthwise::for_shape(args.forward, [&](auto shape) {
    depthwise::launch_dw<decltype(shape)::kSize, decltype(shape)::kChunk>(args, stream);
  });
}

}  // namespace comet::ops_cuda
