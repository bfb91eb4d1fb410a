#include "comet/device/cuda/tensor_map.h"

#include <algorithm>
#include <limits>

#include "comet/base/check.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/encode_tiled.h"

namespace comet {
namespace {

EncodeTiled find_encode_tiled() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  COMET_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                              cudaEnableDefault, &found));
  COMET_CHECK(found == cudaDriverEntryPointSuccess && function != nullptr,
              "the driver has no cuTensorMapEncodeTiled ({})", static_cast<int>(found));
  return reinterpret_cast<EncodeTiled>(function);
}

CUresult encode(CUtensorMap& map, const TensorMapDesc& desc, CUtensorMapSwizzle swizzle) {
  const int64_t element_bytes = dtype_bytes(desc.dtype);
  const int64_t stride_bytes = desc.stride * element_bytes;
  COMET_CHECK(element_bytes == 1 || desc.dtype == DType::kBF16, "{}", dtype_name(desc.dtype));
  COMET_CHECK(reinterpret_cast<uintptr_t>(desc.data) % 16 == 0 && stride_bytes % 16 == 0,
              "rows of {} bytes at {}", stride_bytes, desc.data);
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(desc.columns),
                               static_cast<cuuint64_t>(desc.rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(stride_bytes)};
  const cuuint32_t box[2] = {static_cast<cuuint32_t>(kMapRowBytes / element_bytes),
                             static_cast<cuuint32_t>(desc.box_rows)};
  const cuuint32_t element_strides[2] = {1, 1};
  return encode_tiled()(
      &map, element_bytes == 1 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
      2, const_cast<void*>(desc.data), sizes, strides, box, element_strides,
      CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

}  // namespace

EncodeTiled encode_tiled() {
  static const EncodeTiled kFunction = find_encode_tiled();
  return kFunction;
}

CUtensorMap make_tensor_map(const TensorMapDesc& desc) {
  CUtensorMap map{};
  const CUresult made =
      encode(map, desc, desc.is_swizzled ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE);
  COMET_CHECK(made == CUDA_SUCCESS, "cuTensorMapEncodeTiled of [{}, {}] in boxes of {} rows: {}",
              desc.rows, desc.columns, desc.box_rows, static_cast<int>(made));
  return map;
}

CUtensorMap make_block_map(const void* data, int64_t block_bytes) {
  COMET_CHECK(block_bytes > 0 && block_bytes % kMapRowBytes == 0, "blocks of {} bytes",
              block_bytes);
  CUtensorMap map{};
  const CUresult made = encode(map,
                               {.data = data,
                                .dtype = DType::kU8,
                                .rows = std::numeric_limits<int32_t>::max(),
                                .columns = kMapRowBytes,
                                .stride = kMapRowBytes,
                                .box_rows = static_cast<int32_t>(block_bytes / kMapRowBytes)},
                               CU_TENSOR_MAP_SWIZZLE_NONE);
  COMET_CHECK(made == CUDA_SUCCESS, "cuTensorMapEncodeTiled of blocks of {} bytes: {}", block_bytes,
              static_cast<int>(made));
  return map;
}

CUtensorMap make_row_map(const RowMapDesc& desc) {
  constexpr int64_t kElementBytes = 8;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(desc.row_bytes / kElementBytes),
                               static_cast<cuuint64_t>(desc.num_rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(desc.row_bytes)};
  const cuuint32_t box[2] = {static_cast<cuuint32_t>(desc.box_bytes / kElementBytes),
                             static_cast<cuuint32_t>(desc.box_rows)};
  const cuuint32_t element_strides[2] = {1, 1};
  CUtensorMap map{};
  const CUresult made = encode_tiled()(
      &map, CU_TENSOR_MAP_DATA_TYPE_UINT64, 2, const_cast<void*>(desc.data), sizes, strides, box,
      element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  COMET_CHECK(made == CUDA_SUCCESS,
              "cuTensorMapEncodeTiled of rows of {} bytes at {} in boxes of {} x {}: {}",
              desc.row_bytes, desc.data, desc.box_rows, desc.box_bytes, static_cast<int>(made));
  return map;
}

WideBlockMap make_wide_block_map(const void* data, int64_t block_bytes) {
  constexpr int64_t kElementBytes = 8;
  constexpr int64_t kMaxBox = 256;  // elements, rows
  int64_t row_bytes = std::min(block_bytes, kMaxBox * kElementBytes) / 16 * 16;
  while (row_bytes > 16 && block_bytes % row_bytes != 0) row_bytes -= 16;
  COMET_CHECK(row_bytes > 0 && block_bytes % row_bytes == 0 && block_bytes / row_bytes <= kMaxBox &&
                  reinterpret_cast<uintptr_t>(data) % 16 == 0,
              "blocks of {} bytes at {}", block_bytes, data);
  const auto num_rows = static_cast<int32_t>(block_bytes / row_bytes);
  return {make_row_map({data, row_bytes, row_bytes, num_rows}), num_rows};
}

}  // namespace comet
