// A float layer that quantizes the inputs of chosen linears and nothing else: what the planning of
// INT8 blocks measures with. The linear's weight stays dense and in the model's order; its rows go
// through the site's stored order, rotation and codes and come back as floats. Callers:
// block_planner.
#pragma once

#include "comet/models/llama.h"
#include "comet/quant/layer/layer_weights.h"

namespace comet::quant {

/// rows [n, k] in the model's order → the same as the site's codes stand for them.
Matrix simulated_rows(ThreadPool& pool, const formats::SiteLayout& layout,
                      View<const float, 2> rows);

/// Linear `site` of the layer with simulated inputs; borrows `layer` and keeps a copy of `layout`.
Result<nn::Linear> bind_simulated_linear(const LayerWeights& layer, const io::ModelConfig& config,
                                         Site site, const formats::SiteLayout& layout,
                                         const Caps& caps);

}  // namespace comet::quant
