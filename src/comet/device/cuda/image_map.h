// Descriptions of images for the copy engine (CUtensorMap), as tensor_map.h's of matrices: for
// prims/image_copy.cuh, passed to kernels by value as a __grid_constant__. Callers: host halves of
// sm_90 kernels over images.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace comet {

/// Images [num_images, height, width, channels] of BF16 pairs, cut into boxes [box_rows][width]
/// [box_channels] of one image, which lie in order in shared memory. Coordinates: pairs of
/// channels (a multiple of 4), column, row, image; what is outside of the image reads as 0 and is
/// not written.
struct ImageMapDesc {
  const void* data = nullptr;  // 16-byte aligned
  int64_t num_images = 0;
  int64_t height = 0;
  int64_t width = 0;           // at most 256
  int64_t channels = 0;        // a multiple of 8
  int32_t box_channels = 0;    // a multiple of 8, at most 512
  int32_t box_rows = 0;        // at most 256
  bool is_read_whole = false;  // others read the channels beside the boxes: L2 may fetch them too
};

/// Broken promises (alignment, sizes, a driver without the function) are COMET_CHECKs.
CUtensorMap make_image_map(const ImageMapDesc& desc);

}  // namespace comet
