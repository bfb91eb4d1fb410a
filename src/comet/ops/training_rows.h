// TrainingRows: what one instruction set does for the operators of training, beside RowOps. Filled
// by training_rows_<isa>.cpp from one body each. A plain struct: files compiled for an instruction
// set may include it.
#pragma once

#include <stdint.h>

namespace comet {

enum class CpuIsa;

/// Row y of dy of a depthwise convolution (row_ops.h) and the image it was computed from.
struct DepthwiseGradRow {
  const float* dy = nullptr;  // first pixel of the row
  const float* x = nullptr;   // first pixel of the whole image
  float* dweight = nullptr;   // [kernel_h, kernel_w, channels], added to
  float* dbias = nullptr;     // [channels], added to
  int64_t height = 0;
  int64_t width = 0;
  int64_t pixel_stride = 0;
  int64_t y = 0;
  int64_t kernel_h = 0;
  int64_t kernel_w = 0;
  int64_t channels = 0;
};

/// What product_tile multiplies: panels packed by product.cpp.
struct ProductTile {
  const float* a = nullptr;  // [k][kProductRows]
  const float* b = nullptr;  // [k][tile_columns]
  int64_t k = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
  int64_t num_rows = 0;         // of the tile that are there, ≤ kProductRows
  int64_t num_columns = 0;      // ≤ tile_columns
  const float* bias = nullptr;  // of the tile's columns; nullptr: none
  bool add_to_out = false;
};

constexpr int64_t kProductRows = 6;

struct TrainingRows {
  /// dx = dy · (Φ(x) + x·φ(x)).
  void (*gelu_backward_row)(float* dx, const float* dy, const float* x, int64_t n);
  void (*depthwise_grad_row)(const DepthwiseGradRow& row);
  /// out [+]= aᵀ · b + bias.
  void (*product_tile)(const ProductTile& tile);
  int64_t tile_columns = 0;
};

extern const TrainingRows kTrainingRowsPortable;
extern const TrainingRows kTrainingRowsAvx2;
extern const TrainingRows kTrainingRowsAvx512;

/// Those of the instruction set.
const TrainingRows& training_rows(CpuIsa isa);

}  // namespace comet
