// Depthwise convolution of BF16 NHWC images, FP32 sums; kFlip: out += the transposed convolution,
// for gradients.
// Grid: x → tiles of 7 rows × up to 32, 16 or 8 columns; y → chunks of 32, 64 or 128 channels
// (tile.cuh). A thread keeps the weights of its channel in registers and makes 7 × 4 outputs: 1,372
// FMA for 130 loads from shared memory. Two CTAs on an SM.
// Floor for 7×7: 49 FMA an output: stage 1 of ConvNeXt-T at 128 images 1.9 GFMA, 63 µs at 30
// TFMA/s, above the 36 µs of its 154 MB at 4.3 TB/s.
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/depthwise_conv/cuda/cut.h"
#include "comet/ops/depthwise_conv/cuda/tile.cuh"

namespace comet::ops_cuda {
namespace depthwise {
namespace {

template <int kSize, int kChunk, bool kFlip>
__global__ void __launch_bounds__(kTileThreads, 2) depthwise_kernel(DepthwiseArgs args, Cut cut) {
  extern __shared__ __align__(16) uint16_t depthwise_tile[];
  constexpr int kTaps = kSize * kSize;
  const ImageSizes& sizes = args.sizes;
  const Place place = place_of(sizes, cut, static_cast<int>(blockIdx.x));
  stage<kChunk>(depthwise_tile, args.x, sizes, place, cut.by_halo_columns, kSize / 2);
  uint16_t* old_tile = depthwise_tile + (kRows + kSize - 1) * cut.by_halo_columns.divisor * kChunk;
  if (kFlip) stage<kChunk>(old_tile, args.out, sizes, place, cut.by_columns, 0);
  prims::cp_async_commit();
  const int in_chunk = static_cast<int>(threadIdx.x) % kChunk;
  const int channel = static_cast<int>(blockIdx.y) * kChunk + in_chunk;
  const int strip = static_cast<int>(threadIdx.x) / kChunk * kColumns;
  const bool has_channel = channel < sizes.channels;
  float w[kTaps];
  float bias = 0.0F;
  if (has_channel) {
#pragma unroll
    for (int t = 0; t < kTaps; ++t) {
      w[t] = __ldg(args.weights.weight + (kFlip ? kTaps - 1 - t : t) * sizes.channels + channel);
    }
    if (!kFlip) bias = __ldg(args.weights.bias + channel);
  }
  const int row_step = sizes.width * sizes.channels;
  const int corner =
      (place.first_row * sizes.width + place.first_column + strip) * sizes.channels + channel;
  uint16_t* out = static_cast<uint16_t*>(args.out) + place.image_at + corner;
  const auto exists = [&](int r, int c) {
    return has_channel && r < place.rows && strip + c < place.columns;
  };
  float sums[kRows][kColumns];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sums[r][c] = bias;
  }
  prims::cp_async_wait<0>();
  __syncthreads();
  if (!has_channel || strip >= place.columns) return;
  const int pitch = cut.by_halo_columns.divisor * kChunk;
  for_products<kSize, kChunk>(
      depthwise_tile + strip * kChunk + in_chunk, pitch,
      [&](int r, int c, int tap, float v) { sums[r][c] = fmaf(w[tap], v, sums[r][c]); });
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (exists(r, c)) {
        if (kFlip) {
          const int at = (r * cut.tile_columns + strip + c) * kChunk + in_chunk;
          sums[r][c] += prims::f32_of_bf16(old_tile[at]);
        }
        out[r * row_step + c * sizes.channels] =
            static_cast<uint16_t>(prims::bf16x2_of(sums[r][c], 0.0F));
      }
    }
  }
}

template <bool kFlip>
void launch_conv(const DepthwiseArgs& args, CUstream_st* stream) {
  if (!is_tiled(args, args.out)) return launch_any<kFlip>(args, stream);
  for_shape(args, [&](auto shape) {
    constexpr int kSize = decltype(shape)::kSize;
    constexpr int kChunk = decltype(shape)::kChunk;
    const Cut cut = cut_of(args.sizes, kChunk, kSize);
    const int old_elements = kFlip ? kRows * cut.tile_columns * kChunk : 0;
    const int shared_bytes =
        (tile_elements(cut, kChunk, kSize) + old_elements) * static_cast<int>(sizeof(uint16_t));
    const auto kernel = depthwise_kernel<kSize, kChunk, kFlip>;
    COMET_CUDA(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
    const dim3 grid(static_cast<unsigned>(cut.num_tiles),
                    static_cast<unsigned>(ceil_div(args.sizes.channels, kChunk)));
    kernel<<<grid, kTileThreads, static_cast<size_t>(shared_bytes), stream>>>(args, cut);
    COMET_CUDA(cudaGetLastError());
  });
}

}  // namespace

void launch_transposed(const DepthwiseArgs& args, CUstream_st* stream) {
  launch_conv<true>(args, stream);
}

}  // namespace depthwise

void launch_depthwise_conv(const DepthwiseArgs& args, CUstream_st* stream) {
  if (is_empty(args.sizes)) return;
  depthwise::launch_conv<false>(args, stream);
}

}  // namespace comet::ops_cuda
