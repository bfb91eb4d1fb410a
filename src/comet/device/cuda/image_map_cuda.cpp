#include "comet/device/cuda/image_map.h"

#include "comet/base/check.h"
#include "comet/device/cuda/encode_tiled.h"

namespace comet {

CUtensorMap make_image_map(const ImageMapDesc& desc) {
  constexpr int64_t kPairBytes = 4;
  COMET_CHECK(reinterpret_cast<uintptr_t>(desc.data) % 16 == 0 && desc.channels % 8 == 0,
              "pixels of {} channels at {}", desc.channels, desc.data);
  const auto size = [](int64_t n) { return static_cast<cuuint64_t>(n); };
  const int64_t pairs = desc.channels / 2;
  const cuuint64_t sizes[4] = {size(pairs), size(desc.width), size(desc.height),
                               size(desc.num_images)};
  const cuuint64_t strides[3] = {size(pairs * kPairBytes), size(desc.width * pairs * kPairBytes),
                                 size(desc.height * desc.width * pairs * kPairBytes)};
  const cuuint32_t box[4] = {static_cast<cuuint32_t>(desc.box_channels / 2),
                             static_cast<cuuint32_t>(desc.width),
                             static_cast<cuuint32_t>(desc.box_rows), 1};
  const cuuint32_t element_strides[4] = {1, 1, 1, 1};
  CUtensorMap map{};
  const CUresult made = encode_tiled()(
      &map, CU_TENSOR_MAP_DATA_TYPE_UINT32, 4, const_cast<void*>(desc.data), sizes, strides, box,
      element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
      desc.is_read_whole ? CU_TENSOR_MAP_L2_PROMOTION_L2_128B : CU_TENSOR_MAP_L2_PROMOTION_NONE,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  COMET_CHECK(made == CUDA_SUCCESS,
              "cuTensorMapEncodeTiled of images [{}, {}, {}, {}] in boxes of {} rows, {} channels: "
              "{}",
              desc.num_images, desc.height, desc.width, desc.channels, desc.box_rows,
              desc.box_channels, static_cast<int>(made));
  return map;
}

}  // namespace comet
