// Descriptions of tensors for the copy engine (CUtensorMap), made on the host for
// prims/bulk_copy.cuh: passed to kernels by value as a __grid_constant__. Callers: host halves of
// sm_90a kernels. Making one reads no device memory and is allowed while a graph is captured.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <limits>

#include "comet/tensor/dtype.h"

namespace comet {

/// A matrix [rows, columns] of BF16 or of bytes (I8, U8, F8_E4M3), cut into boxes whose rows are
/// 128 bytes, written to shared memory with the 128-byte swizzle or without. Elements beyond the
/// matrix read as 0.
struct TensorMapDesc {
  const void* data = nullptr;  // 16-byte aligned
  DType dtype = DType::kBF16;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;       // elements; a multiple of 16 bytes
  int32_t box_rows = 0;     // at most 256
  bool is_swizzled = true;  // else a row's bytes lie in order
};

/// Broken promises (alignment, sizes, a driver without the function) are COMET_CHECKs.
CUtensorMap make_tensor_map(const TensorMapDesc& desc);

constexpr int64_t kMapRowBytes = 128;

/// Bytes from `data` on (16-byte aligned), without an end, in blocks that lie in shared memory as
/// in global: the box at x 0, y block · block_bytes / kMapRowBytes is a block. block_bytes: a
/// multiple of kMapRowBytes, at most 256 times it. Does what a plain bulk copy does, but racecheck
/// follows the order of tensor copies alone (docs/kernels/sanitizers.md).
CUtensorMap make_block_map(const void* data, int64_t block_bytes);

/// Bytes from `data` on (16-byte aligned) as rows of row_bytes; a box is box_rows rows of box_bytes
/// (at most 2,048), one behind the other in shared memory. Its x counts 8 bytes. Rows from num_rows
/// on read as 0.
struct RowMapDesc {
  const void* data = nullptr;
  int64_t row_bytes = 0;
  int64_t box_bytes = 0;
  int32_t box_rows = 0;                                    // at most 256
  int64_t num_rows = std::numeric_limits<int32_t>::max();  // without an end
};
CUtensorMap make_row_map(const RowMapDesc& desc);

/// As make_block_map, for blocks of any multiple of 16 bytes, in rows as wide as a map can have: a
/// row of the map costs the copy engine time. The box at x 0, y block · rows_of_block is a block.
struct WideBlockMap {
  CUtensorMap map{};
  int32_t rows_of_block = 0;
};
/// At most 256 rows of at most 2,048 bytes, which COMET_CHECKs hold it to.
WideBlockMap make_wide_block_map(const void* data, int64_t block_bytes);

}  // namespace comet
