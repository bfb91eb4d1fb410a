#include "comet/quant/blocks/block_plan.h"

#include <algorithm>
#include <cmath>

namespace comet::quant {

std::array<SiteShape, kNumSites> layer_shapes(const io::ModelConfig& config) {
  const std::vector<formats::LinearSpec> specs = models::llama_linear_specs(config, 0);
  COMET_CHECK(specs.size() == kNumSites, "{} linears", specs.size());
  std::array<SiteShape, kNumSites> shapes;
  for (size_t i = 0; i < kNumSites; ++i) shapes[i] = {specs[i].n(), specs[i].k};
  return shapes;
}

Result<BlockPlan> fixed_block_plan(const QuantizeOptions& options, const io::ModelConfig& config) {
  const std::array<SiteShape, kNumSites> shapes = layer_shapes(config);
  SiteBlocks blocks{};
  if (options.int8_share) {
    const auto planned = plan_int8_blocks(shapes, *options.int8_share);
    if (!planned) return planned.error();
    std::copy(planned->begin(), planned->end(), blocks.begin());
  } else {
    for (size_t i = 0; i < kNumSites; ++i) {
      if (options.int8_blocks > shapes[i].num_blocks()) {
        return make_error(ErrorCode::kInvalidArgument,
                          "--int8-blocks {}: {} has only {} blocks of 128 channels",
                          options.int8_blocks, models::llama_linear_specs(config, 0)[i].name,
                          shapes[i].num_blocks());
      }
      blocks[i] = options.int8_blocks;
    }
  }
  return BlockPlan{std::vector<SiteBlocks>(config.num_layers, blocks)};
}

BlockPlan block_plan_of_losses(std::span<const SiteLosses> losses, const io::ModelConfig& config,
                               double share) {
  const std::array<SiteShape, kNumSites> shapes = layer_shapes(config);
  std::vector<BlockCurve> curves;
  int64_t all_work = 0;
  for (const SiteLosses& layer : losses) {
    for (size_t i = 0; i < kNumSites; ++i) {
      COMET_CHECK(static_cast<int64_t>(layer[i].size()) == shapes[i].num_blocks() + 1,
                  "{} losses for {} blocks", layer[i].size(), shapes[i].num_blocks());
      curves.push_back({layer[i], shapes[i].rows});
      all_work += shapes[i].rows * shapes[i].num_blocks();
    }
  }
  // A share that was computed from whole blocks must not lose one of them to rounding.
  const auto budget =
      static_cast<int64_t>(std::floor(share * static_cast<double>(all_work) * (1.0 + 1e-12)));
  const std::vector<int64_t> chosen = choose_blocks(curves, std::min(budget, all_work));
  BlockPlan plan{std::vector<SiteBlocks>(losses.size())};
  for (size_t c = 0; c < chosen.size(); ++c) plan.layers[c / kNumSites][c % kNumSites] = chosen[c];
  return plan;
}

Json block_plan_json(const BlockPlan& plan) {
  Json rows = Json::array();
  for (const SiteBlocks& layer : plan.layers) rows.push_back(layer);
  return rows;
}

Result<BlockPlan> block_plan_from_json(const Json& json, const io::Checkpoint& checkpoint) {
  const auto config = io::parse_model_config(checkpoint.config(), checkpoint.config_path());
  if (!config) return config.error();
  const Error bad = make_error(ErrorCode::kCorrupt,
                               "the state of the interrupted run has no plan of INT8 blocks for "
                               "these {} layers; leave --resume out to begin anew",
                               config->num_layers);
  if (!json.is_array() || static_cast<int64_t>(json.size()) != config->num_layers) return bad;
  const std::array<SiteShape, kNumSites> shapes = layer_shapes(*config);
  BlockPlan plan;
  for (const Json& row : json) {
    if (!row.is_array() || row.size() != kNumSites) return bad;
    SiteBlocks& blocks = plan.layers.emplace_back();
    for (size_t i = 0; i < kNumSites; ++i) {
      if (!row[i].is_number_integer()) return bad;
      blocks[i] = row[i].get<int64_t>();
      if (blocks[i] < 0 || blocks[i] > shapes[i].num_blocks()) return bad;
    }
  }
  return plan;
}

}  // namespace comet::quant
