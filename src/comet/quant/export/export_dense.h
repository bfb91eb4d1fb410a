// export_dense: a quantized model folder in, a plain Hugging Face folder of BF16 tensors out, one
// linear in memory at a time. What quantization folded into the weights (equalizer, smoothing,
// order of FFN channels) stays: the model computes the same function. Callers: apps.
#pragma once

#include <functional>
#include <string>

#include "comet/io/checkpoint.h"
#include "comet/ops/context.h"

namespace comet::quant {

struct ExportRequest {
  std::string out_dir;
  bool force = false;  // replace an existing out_dir
  /// Called after each layer with the number done.
  std::function<void(int64_t num_layers_done)> on_layer;
};

/// Writes out_dir by way of out_dir.partial; returns the bytes of all tensors. On an error nothing
/// is left and an existing out_dir is untouched. A dense `checkpoint` is an error.
Result<int64_t> export_dense(Context& ctx, const io::Checkpoint& checkpoint,
                             const ExportRequest& request);

}  // namespace comet::quant
