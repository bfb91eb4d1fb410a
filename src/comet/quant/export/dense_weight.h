// A quantized linear as the float weight it stands for: codes times scales, rotation and stored
// order undone. Format-free. Callers: export_dense.
#pragma once

#include "comet/device/thread_pool.h"
#include "comet/formats/quantized_weight.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

/// [rows, site.k] in the order in which the model's own input channels come.
Matrix dense_weight(ThreadPool& pool, const formats::QuantizedWeight& weight);

}  // namespace comet::quant
