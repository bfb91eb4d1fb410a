#include "comet/quant/recipe.h"

#include <array>
#include <bit>

#include "comet/quant/weights/weight_methods.h"

namespace comet::quant {
namespace {

using formats::ActScale;
using formats::Granularity;

struct Recipe {
  std::string_view name;
  ActScale act_scale;
  std::optional<double> int8_share;
  int64_t int8_blocks;
  Granularity granularity;
  std::string_view weights;
  bool refined;  // equalizer, sorted channels, clip search, smoothed keys, rotated cache
};

constexpr std::array kRecipes{
    Recipe{"w4a8", ActScale::kS2, 1.0, 0, Granularity::kProgressive, "gptq", true},
    Recipe{"fmpq", ActScale::kS2h, std::nullopt, 1, Granularity::kChannel, "gptq", true},
    Recipe{"paper", ActScale::kS1, std::nullopt, 1, Granularity::kGroup, "clip", true},
    Recipe{"naive", ActScale::kS2, std::nullopt, 0, Granularity::kChannel, "rtn", false},
};

}  // namespace

Result<QuantizeOptions> options_of_recipe(std::string_view name, std::string_view target,
                                          bool on_cuda_before_hopper) {
  if (name == "auto") {
    const bool int4_units = target == "sm80" || (target == "auto" && on_cuda_before_hopper);
    name = int4_units ? "fmpq" : "w4a8";
  }
  for (const Recipe& recipe : kRecipes) {
    if (recipe.name != name) continue;
    QuantizeOptions options;
    options.recipe = recipe.name;
    options.act_scale = recipe.act_scale;
    options.int8_share = recipe.int8_share;
    options.int8_blocks = recipe.int8_blocks;
    options.granularity = recipe.granularity;
    options.weights = recipe.weights;
    options.equalize = recipe.refined;
    options.sort_channels = recipe.refined;
    options.search_activation_clip = recipe.refined;
    options.smooth_keys = recipe.refined;
    options.kv_options.rotate = recipe.refined;

    return options;
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "--recipe '{}' does not exist; expected auto, w4a8, fmpq, paper or naive",
                    name);
}

void fit_cache_options(QuantizeOptions& options, const io::ModelConfig& config) {
  const auto format = kv::find_kv_format(options.kv);
  const bool narrow = format.ok() && (*format)->narrow;
  if (!narrow) options.smooth_keys = false;
  if (!narrow || !std::has_single_bit(static_cast<uint64_t>(config.head_dim))) {
    options.kv_options.rotate = false;
    options.rotate_values = false;
  }
}

Status check_options(const QuantizeOptions& options, const io::ModelConfig& config) {
  if (options.int8_share && !(*options.int8_share >= 0.0 && *options.int8_share <= 1.0)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--int8-share {}: expected a share of the multiply-accumulates from 0 to 1",
                      *options.int8_share);
  }
  if (!options.int8_share && options.int8_blocks < 0) {
    return make_error(ErrorCode::kInvalidArgument, "--int8-blocks {}: expected 0 or more",
                      options.int8_blocks);
  }
  if (!(options.damp > 0.0 && options.damp <= 1.0)) {
    return make_error(ErrorCode::kInvalidArgument, "--damp {}: expected more than 0, at most 1",
                      options.damp);
  }
  if (const auto method = find_weight_method(options.weights); !method) return method.error();
  if (const auto kv = kv::find_kv_format(options.kv); !kv) return kv.error();
  kv::KvOptions wanted = options.kv_options;
  wanted.rotate = wanted.rotate || options.rotate_values;
  return kv::check_kv_options(wanted, config.head_dim, config.max_position_embeddings);
}

}  // namespace comet::quant
