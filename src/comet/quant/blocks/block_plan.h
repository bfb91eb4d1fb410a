// BlockPlan: how many INT8 blocks every site of a model gets (docs/formats.md §2.2). Within a site
// they are the last ones of the stored order, where the largest channels stand, so a number says
// all. Callers: block_planner, quantize_model, layer_quantizer.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "comet/base/json.h"
#include "comet/base/result.h"
#include "comet/io/checkpoint.h"
#include "comet/quant/blocks/block_knapsack.h"
#include "comet/quant/fmpq/permutation.h"
#include "comet/quant/layer/layer_weights.h"
#include "comet/quant/recipe.h"

namespace comet::quant {

using SiteBlocks = std::array<int64_t, kNumSites>;  // in the order of kSites

struct BlockPlan {
  std::vector<SiteBlocks> layers;
};

/// Output rows and channels of the linears of one layer.
std::array<SiteShape, kNumSites> layer_shapes(const io::ModelConfig& config);

/// --int8-rule fixed: every layer alike, options.int8_blocks at each site or the smallest even
/// spread that reaches options.int8_share. An error where a site has fewer blocks.
Result<BlockPlan> fixed_block_plan(const QuantizeOptions& options, const io::ModelConfig& config);

/// losses[layer][site][n]: the plan with the least sum whose INT8 work is at most `share` of all.
using SiteLosses = std::array<std::vector<double>, kNumSites>;
BlockPlan block_plan_of_losses(std::span<const SiteLosses> losses, const io::ModelConfig& config,
                               double share);

/// One row of four numbers per layer. Reading checks them against the model.
Json block_plan_json(const BlockPlan& plan);
Result<BlockPlan> block_plan_from_json(const Json& json, const io::Checkpoint& checkpoint);

}  // namespace comet::quant
