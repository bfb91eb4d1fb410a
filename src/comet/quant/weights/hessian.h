// Σ x·xᵀ over a site's quantized input rows in stored order: what GPTQ minimizes against. Callers:
// layer_quantizer. FP32 products of a chunk, FP64 sums of chunks; independent of threads.
#pragma once

#include "comet/formats/quantized_weight.h"
#include "comet/ops/context.h"
#include "comet/quant/weights/cholesky.h"

namespace comet::quant {

/// hessian += Σ over `rows` [n, k] (the model's order) of their quantized stored form.
void add_to_hessian(Context& ctx, const formats::SiteLayout& layout, View<const float, 2> rows,
                    SymmetricMatrix& hessian);

}  // namespace comet::quant
