// How kernels over images are cut: bands of 7 rows, tiles of a band's columns. Callers:
// inception_mixer, depthwise_conv.
#pragma once

#include <cstdint>

#include "comet/ops/cuda/image_launches.h"

namespace comet::ops_cuda {

constexpr int kTileRows = 7;  // divides the sides of the networks' images: 56, 28, 14, 7

struct TileCut {
  int32_t bands_per_image = 0;
  int32_t tiles_per_band = 0;
  int32_t num_tiles = 0;
  int32_t tile_columns = 0;
};

/// One tile of one image.
struct Place {
  int64_t image_at = 0;  // element of the image's first pixel
  int first_row = 0;
  int first_column = 0;
  int rows = 0;  // in the image
  int columns = 0;
};

__device__ __forceinline__ Place place_of(const ImageSizes& sizes, const TileCut& cut, int tile) {
  const int band = tile / cut.tiles_per_band;
  const int image = band / cut.bands_per_image;
  Place place;
  place.image_at = static_cast<int64_t>(image) * sizes.height * sizes.width * sizes.channels;
  place.first_row = (band - image * cut.bands_per_image) * kTileRows;
  place.first_column = (tile - band * cut.tiles_per_band) * cut.tile_columns;
  place.rows = min(kTileRows, sizes.height - place.first_row);
  place.columns = min(cut.tile_columns, sizes.width - place.first_column);
  return place;
}

/// 0 ≤ i < limit.
__device__ __forceinline__ bool is_within(int i, int limit) {
  return static_cast<unsigned>(i) < static_cast<unsigned>(limit);
}

inline bool is_empty(const ImageSizes& sizes) {
  return sizes.num_images == 0 || sizes.height == 0 || sizes.width == 0 || sizes.channels == 0;
}

}  // namespace comet::ops_cuda
