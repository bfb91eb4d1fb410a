// Chooses a site's clip ratio for 4-bit activations: the ratio in 0.7, 0.75 … 1 whose codes change
// the linear's output least, ‖(Q(x) − x)·Wᵀ‖², on rows kept from calibration. Callers:
// layer_quantizer. Worth 2 to 9 points of perplexity (docs/formats.md §2.4).
#pragma once

#include "comet/formats/quantized_weight.h"
#include "comet/ops/context.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

/// `stored_x` [n, k_padded] and `stored_weight` [rows, k_padded] in stored order, rotated. Large
/// problems are searched on an evenly spaced subset of rows of both. 1 for a site without INT4
/// blocks. Ties go to the larger ratio.
float search_activation_clip(Context& ctx, const formats::SiteLayout& layout,
                             const Matrix& stored_x, const Matrix& stored_weight);

}  // namespace comet::quant
