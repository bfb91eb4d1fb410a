// The whole menu of plain operators, one typed slot each. A device (or instruction set) is one
// table, filled in op_table.cpp from the ops' folders. Public functions (ops/<op>/<op>.h) check
// shapes once, then call ctx.ops.<op>. Slots that work on one row come from RowOps (row_ops.h).
#pragma once

#include <cstdint>
#include <span>

#include "comet/device/device.h"
#include "comet/ops/row_ops.h"
#include "comet/ops/training_ops.h"
#include "comet/tensor/images.h"

namespace comet {

struct Context;
struct DepthwiseWeights;
struct InceptionWeights;
struct LayerNormWeights;

/// On a CUDA table pointers and spans are of device memory, and RowOps' slots are empty.
struct OpTable : RowOps, TrainingOps {
  /// What linears, attention and their heads write.
  DType product_dtype = DType::kF32;
  /// out[t] = table[token[t]]; table rows BF16, F16 or F32 → FP32.
  void (*embedding)(Context& ctx, View<float, 2> out, const Tensor& table,
                    std::span<const int32_t> tokens);
  /// out[i] = x[row_idxs[i]] + delta[row_idxs[i]]; an empty delta adds nothing.
  void (*gather_rows)(Context& ctx, View<float, 2> out, View<const float, 2> x, ConstRows delta,
                      std::span<const int32_t> row_idxs);
  /// out[t] = x[t] · rsqrt(mean(x[t]²) + eps) · weight (Zhang, Sennrich 2019).
  void (*rms_norm)(Context& ctx, View<float, 2> out, View<const float, 2> x,
                   View<const float, 1> weight, float eps);
  /// Rotates pairs (i, i + head_dim/2) of x [tokens, heads, head_dim] by position · inv_freq[i] (Su
  /// et al. 2021).
  void (*rope)(Context& ctx, View<float, 3> x, std::span<const int32_t> positions,
               std::span<const float> inv_freq);
  /// x += y.
  void (*add)(Context& ctx, View<float, 2> x, ConstRows y);
  /// out = gate · sigmoid(gate) · up.
  void (*silu_mul)(Context& ctx, View<float, 2> out, View<const float, 2> gate,
                   View<const float, 2> up);

  // Of images, NHWC. What they compute stands in <op>/<op>.h; the weights are FP32 everywhere.
  void (*layer_norm)(Context& ctx, Rows out, ConstRows x, const LayerNormWeights& norm);
  void (*gelu)(Context& ctx, Rows out, ConstRows x);
  void (*depthwise_conv)(Context& ctx, Images out, ConstImages x, const DepthwiseWeights& weights);
  void (*inception_mixer)(Context& ctx, Images out, ConstImages x, const InceptionWeights& weights);
  void (*gather_patches)(Context& ctx, Rows out, ConstImages x, int64_t size);
  void (*average_pool)(Context& ctx, Rows out, ConstImages x);
};

/// The table of one instruction set; sets without a table of their own use the next lower one.
const OpTable& cpu_op_table(CpuIsa isa);
/// The table of a GPU; a build without CUDA has none.
const OpTable& cuda_op_table();
/// write_to_device() on a GPU.
void write_to_gpu(Context& ctx, const Tensor& device, const Tensor& host);

}  // namespace comet
