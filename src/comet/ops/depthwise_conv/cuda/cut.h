// How a depthwise convolution's launch is cut, on the host. Callers: depthwise.cu,
// depthwise_grads.cu.
#pragma once

#include <algorithm>

#include "comet/ops/depthwise_conv/cuda/tile.cuh"

namespace comet::ops_cuda::depthwise {

/// Whether the tiles' kernels take the operator: 3×3 and 7×7 on 16-byte pieces.
inline bool is_tiled(const DepthwiseArgs& args, const void* other) {
  const auto at = reinterpret_cast<uintptr_t>(args.x) | reinterpret_cast<uintptr_t>(other);
  return args.kernel_h == args.kernel_w && (args.kernel_h == 3 || args.kernel_h == 7) &&
         args.sizes.channels % 8 == 0 && at % 16 == 0;
}

inline int ceil_div(int n, int by) { return (n + by - 1) / by; }

inline Divisor divisor_of(int n) { return {n, 1.0F / static_cast<float>(n)}; }

inline Cut cut_of(const ImageSizes& sizes, int chunk, int size) {
  Cut cut;
  const int most = kColumns * kTileThreads / chunk;
  cut.bands_per_image = ceil_div(sizes.height, kRows);
  cut.tiles_per_band = ceil_div(sizes.width, most);
  cut.tile_columns = ceil_div(ceil_div(sizes.width, cut.tiles_per_band), kColumns) * kColumns;
  cut.num_tiles = sizes.num_images * cut.bands_per_image * cut.tiles_per_band;
  cut.by_halo_columns = divisor_of(cut.tile_columns + size - 1);
  cut.by_columns = divisor_of(cut.tile_columns);
  return cut;
}

/// Elements of a tile with its halo.
inline int tile_elements(const Cut& cut, int chunk, int size) {
  return (kRows + size - 1) * cut.by_halo_columns.divisor * chunk;
}

template <int kSizeOf, int kChunkOf>
struct Shape {
  static constexpr int kSize = kSizeOf;
  static constexpr int kChunk = kChunkOf;
};

/// Calls use(Shape<kSize, kChunk>()): the narrower the image, the more channels a CTA takes.
template <typename Use>
void for_shape(const DepthwiseArgs& args, const Use& use) {
  const auto of_size = [&](auto size) {
    constexpr int kSize = decltype(size)::kSize;
    if (args.sizes.width <= 8 && args.sizes.channels > 64) {
      use(Shape<kSize, 128>());
    } else if (args.sizes.width <= 16 && args.sizes.channels > 32) {
      use(Shape<kSize, 64>());
    } else {
      use(Shape<kSize, 32>());
    }
  };
  if (args.kernel_h == 3) {
    of_size(Shape<3, 1>());
  } else {
    of_size(Shape<7, 1>());
  }
}

/// any_depthwise.cu: any size of kernel, channels and alignment, slowly. kFlip: out += the
/// transposed convolution of x.
template <bool kFlip>
void launch_any(const DepthwiseArgs& args, CUstream_st* stream);
void launch_any_grads(const DepthwiseBackwardArgs& args, CUstream_st* stream);

/// depthwise.cu: out += the transposed convolution of x.
void launch_transposed(const DepthwiseArgs& args, CUstream_st* stream);

}  // namespace comet::ops_cuda::depthwise
