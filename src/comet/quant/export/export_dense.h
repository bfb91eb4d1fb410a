// export_dense: a quantized model folder in (Comet's, compressed-tensors', GPTQ's or AWQ's), a
// plain Hugging Face folder of BF16 tensors out. What quantization folded into the weights
// (equalizer, smoothing, order of FFN channels) stays: the model computes the same function.
// Callers: apps.
#pragma once

#include "comet/quant/export/export_model.h"

namespace comet::quant {

/// As export_model says; a dense `checkpoint` is an error.
Result<int64_t> export_dense(Context& ctx, const io::Checkpoint& checkpoint,
                             const ExportRequest& request);

}  // namespace comet::quant
