// export_compressed_tensors: 4-bit weights of another layout (GPTQ, AWQ, w4ax where its weights
// have group scales and the model's own order of channels) out as compressed-tensors'
// "pack-quantized", codes and scales as they are. Callers: apps.
#pragma once

#include "comet/quant/export/export_model.h"

namespace comet::quant {

/// As export_model says. An error names what has no such form (and `--format dense`): a dense
/// model, one that has the form already, permuted, rotated or otherwise scaled w4ax weights.
Result<int64_t> export_compressed_tensors(Context& ctx, const io::Checkpoint& checkpoint,
                                          const ExportRequest& request);

}  // namespace comet::quant
