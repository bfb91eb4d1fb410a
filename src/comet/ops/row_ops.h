// RowOps: what one instruction set does with one row. Filled by row_ops_<isa>.cpp, called by the
// operators of this room and by the producers of formats/. A plain struct: files compiled for an
// instruction set may include it.
#pragma once

#include <stdint.h>

namespace comet {

/// A layer norm over n channels.
struct LayerNormRow {
  const float* weight = nullptr;
  const float* bias = nullptr;
  int64_t n = 0;
  float eps = 0.0F;
};

/// Row y of a depthwise convolution of one image, stride 1, zero padding that keeps its size.
struct DepthwiseRow {
  float* out = nullptr;           // first pixel of the output row
  const float* x = nullptr;       // first pixel of the whole image
  const float* weight = nullptr;  // [kernel_h, kernel_w, channels]
  const float* bias = nullptr;    // [channels]
  int64_t height = 0;
  int64_t width = 0;
  int64_t pixel_stride = 0;  // floats from pixel to pixel, of x and out; rows follow one another
  int64_t y = 0;
  int64_t kernel_h = 0;  // odd
  int64_t kernel_w = 0;  // odd
  int64_t channels = 0;
};

struct RowOps {
  /// out = x · rsqrt(mean(x²) + eps) · weight; out may be x.
  void (*rms_norm_row)(float* out, const float* x, const float* weight, int64_t n, float eps);
  /// out = gate · sigmoid(gate) · up; out may be gate or up.
  void (*silu_mul_row)(float* out, const float* gate, const float* up, int64_t n);
  /// x += y.
  void (*add_row)(float* x, const float* y, int64_t n);
  /// (x[i], x[i + num_pairs]) turned by the angle whose cosine and sine are given, each product and
  /// sum rounded by itself.
  void (*rope_row)(float* x, const float* cosines, const float* sines, int64_t num_pairs);
  void (*f32_from_bf16)(float* out, const uint16_t* bits, int64_t n);
  void (*f32_from_f16)(float* out, const uint16_t* bits, int64_t n);
  /// The n-point transform of docs/formats.md §1 in place, n a power of two: stages of stride 1, 2,
  /// 4 … n/2, then one product with float(1/√n). The same bits on every instruction set.
  void (*hadamard)(float* x, int64_t n);
  /// out = (x − mean) / √(variance + eps) · weight + bias; out may be x.
  void (*layer_norm_row)(float* out, const float* x, const LayerNormRow& row);
  /// out = x · Φ(x), Φ the normal distribution; out may be x.
  void (*gelu_row)(float* out, const float* x, int64_t n);
  void (*depthwise_row)(const DepthwiseRow& row);
};

extern const RowOps kRowOpsPortable;
extern const RowOps kRowOpsAvx2;
extern const RowOps kRowOpsAvx512;

}  // namespace comet
