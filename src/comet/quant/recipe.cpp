#include "comet/quant/recipe.h"

#include <algorithm>
#include <array>
#include <bit>

#include "comet/models/llama.h"
#include "comet/quant/weights/weight_methods.h"

namespace comet::quant {
namespace {

using formats::ActScale;
using formats::Granularity;

struct Recipe {
  std::string_view name;
  std::string_view format;
  ActScale act_scale;
  std::optional<double> int8_share;
  int64_t int8_blocks;
  Granularity granularity;
  std::string_view weights;
  WeightCodes codes;
  bool refined;  // equalizer, sorted channels, clip search, smoothed keys, rotated cache
};

constexpr auto kS4 = WeightCodes::kS4;
constexpr auto kS8 = WeightCodes::kS8;
constexpr auto kE4M3 = WeightCodes::kE4M3;

constexpr std::array kRecipes{
    Recipe{"w4a8", "w4ax", ActScale::kS2, 1.0, 0, Granularity::kProgressive, "gptq", kS4, true},
    Recipe{"fmpq", "w4ax", ActScale::kS2h, std::nullopt, 1, Granularity::kChannel, "gptq", kS4,
           true},
    Recipe{"paper", "w4ax", ActScale::kS1, std::nullopt, 1, Granularity::kGroup, "clip", kS4, true},
    Recipe{"naive", "w4ax", ActScale::kS2, std::nullopt, 0, Granularity::kChannel, "rtn", kS4,
           false},
    Recipe{"w4a16", "w4a16", ActScale::kA16, std::nullopt, 0, Granularity::kGroup, "gptq", kS4,
           true},
    Recipe{"w8a8-int", "w8a8-int", ActScale::kToken, 1.0, 0, Granularity::kChannel, "gptq", kS8,
           true},
    Recipe{"w8a8-fp8", "w8a8-fp8", ActScale::kToken, 1.0, 0, Granularity::kChannel, "rtn", kE4M3,
           true},
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
    options.format = recipe.format;
    options.act_scale = recipe.act_scale;
    options.int8_share = recipe.int8_share;
    options.int8_blocks = recipe.int8_blocks;
    options.granularity = recipe.granularity;
    options.weights = recipe.weights;
    options.codes = recipe.codes;
    const bool per_token = recipe.act_scale == ActScale::kToken;
    const bool narrow = !per_token && recipe.act_scale != ActScale::kA16;  // activations
    options.equalize = recipe.refined && !per_token;
    if (recipe.codes == kS8) {
      options.smoothing = Smoothing::kSearch;
      options.search_scales = false;  // no gain at 8 bits (docs/formats.md §10)
    }
    options.sort_channels = recipe.refined && narrow;
    options.search_activation_clip = recipe.refined && narrow;
    if (!narrow) options.kv = "kv16";
    options.smooth_keys = recipe.refined;
    options.kv_options.rotate = recipe.refined;
    return options;
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "--recipe '{}' does not exist; expected auto, w4a8, fmpq, paper or naive",
                    name);
}

std::string_view block_rule_name(BlockRule rule) {
  constexpr std::array<std::string_view, 3> kNames{"fixed", "error", "kl"};
  return kNames[static_cast<size_t>(rule)];
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

void fit_scale_type(QuantizeOptions& options, const io::ModelConfig& config) {
  if (options.format == "w4ax") return;
  const bool wide = options.codes != kS4 && config.dtype == DType::kF32;
  options.scale_type = config.dtype == DType::kF16 ? DType::kF16 : DType::kBF16;
  if (wide) options.scale_type = DType::kF32;
}

bool needs_calibration(const QuantizeOptions& options) {
  return options.codes != kE4M3 || options.smooth_keys;
}

namespace {

/// Of formats that know floats as activations only: what they cannot hold.
Status check_float_activations(const QuantizeOptions& options, const io::ModelConfig& config) {
  if (options.granularity != Granularity::kGroup || options.int8_share || options.int8_blocks > 0) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--format {}: weights have one scale per 128 channels and activations stay "
                      "floats; --w4, --act-scale and --int8-… belong to w4ax",
                      options.format);
  }
  for (const formats::LinearSpec& spec : models::llama_linear_specs(config, 0)) {
    if (spec.k % formats::kBlock == 0) continue;
    return make_error(ErrorCode::kUnsupported,
                      "--format {}: '{}' has {} input channels, which is no multiple of 128; use "
                      "--format w4ax, which pads",
                      options.format, spec.name, spec.k);
  }
  return {};
}

/// Of the formats with 8-bit weights.
Status check_eight_bits(const QuantizeOptions& options) {
  if (options.granularity != Granularity::kChannel || options.int8_share != 1.0) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--format {}: weights have one scale per output channel and activations one "
                      "per token; --w4, --act-scale and --int8-… belong to w4ax",
                      options.format);
  }
  if (options.equalize) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--equalize on: belongs to w4ax and w4a16; w8a8-int has --smooth");
  }
  if (options.codes == kE4M3 && options.weights != "rtn") {
    return make_error(ErrorCode::kInvalidArgument,
                      "--weights {}: FP8 weights are rounded to nearest (rtn)", options.weights);
  }
  return {};
}

/// What belongs together: format, activation scale, codes.
Status check_format(const QuantizeOptions& options, const io::ModelConfig& config) {
  struct Kind {
    std::string_view format;
    WeightCodes codes;
    bool token;
    bool floats;
  };
  constexpr std::array kKinds{Kind{"w4ax", kS4, false, false}, Kind{"w4a16", kS4, false, true},
                              Kind{"w8a8-int", kS8, true, false},
                              Kind{"w8a8-fp8", kE4M3, true, false}};
  const auto* kind = std::find_if(kKinds.begin(), kKinds.end(),
                                  [&](const Kind& k) { return k.format == options.format; });
  if (kind == kKinds.end() || kind->codes != options.codes ||
      kind->token != (options.act_scale == ActScale::kToken) ||
      kind->floats != (options.act_scale == ActScale::kA16)) {
    return make_error(ErrorCode::kInvalidArgument, "--format {}: activations {} do not go with it",
                      options.format, formats::act_scale_name(options.act_scale));
  }
  if (options.smoothing != Smoothing::kOff && options.codes != kS8) {
    return make_error(ErrorCode::kInvalidArgument, "--smooth: belongs to w8a8-int, not to {}",
                      options.format);
  }
  if (options.int8_lm_head && options.format != "w4ax") {
    return make_error(ErrorCode::kInvalidArgument,
                      "--lm-head int8: --format {} keeps the output head as it is; w4ax has it",
                      options.format);
  }
  if (kind->token) return check_eight_bits(options);
  return kind->floats ? check_float_activations(options, config) : Status();
}

Status check_blocks(const QuantizeOptions& options) {
  if (options.int8_share && !(*options.int8_share >= 0.0 && *options.int8_share <= 1.0)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--int8-share {}: expected a share of the multiply-accumulates from 0 to 1",
                      *options.int8_share);
  }
  if (!options.int8_share && options.int8_blocks < 0) {
    return make_error(ErrorCode::kInvalidArgument, "--int8-blocks {}: expected 0 or more",
                      options.int8_blocks);
  }
  if (options.int8_rule == BlockRule::kFixed) return {};
  if (!options.int8_share) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--int8-rule {}: spreads a share of the multiply-accumulates; give it by "
                      "--int8-share, and no --int8-blocks",
                      block_rule_name(options.int8_rule));
  }
  if (!options.sort_channels) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--int8-rule {}: recipe '{}' leaves channels unsorted, so its blocks do not "
                      "differ; use --int8-rule fixed",
                      block_rule_name(options.int8_rule), options.recipe);
  }
  return {};
}

}  // namespace

Status check_options(const QuantizeOptions& options, const io::ModelConfig& config) {
  if (const Status status = check_format(options, config); !status) return status;
  if (const Status status = check_blocks(options); !status) return status;
  if (!(options.damp > 0.0 && options.damp <= 1.0)) {
    return make_error(ErrorCode::kInvalidArgument, "--damp {}: expected more than 0, at most 1",
                      options.damp);
  }
  if (!(options.smoothing_strength >= 0.0 && options.smoothing_strength <= 1.0)) {
    return make_error(ErrorCode::kInvalidArgument, "--smooth {}: expected a strength from 0 to 1",
                      options.smoothing_strength);
  }
  if (const auto method = find_weight_method(options.weights); !method) return method.error();
  if (const auto kv = kv::find_kv_format(options.kv); !kv) return kv.error();
  kv::KvOptions wanted = options.kv_options;
  wanted.rotate = wanted.rotate || options.rotate_values;
  return kv::check_kv_options(wanted, config.head_dim, config.max_position_embeddings);
}

}  // namespace comet::quant
