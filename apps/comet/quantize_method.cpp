#include "apps/comet/quantize_method.h"

#include <array>
#include <charconv>

namespace comet::cli {
namespace {

/// Flags that decide what only w4ax has.
Status refuse_w4ax_flags(const MethodOptions& options) {
  if (options.format == "w4ax") return {};
  const std::array flags{std::pair{"--recipe", options.recipe != "auto"},
                         std::pair{"--w4", options.w4.has_value()},
                         std::pair{"--act-scale", options.act_scale.has_value()},
                         std::pair{"--int8-share", options.int8_share.has_value()},
                         std::pair{"--int8-blocks", options.int8_blocks.has_value()},
                         std::pair{"--int8-rule", options.int8_rule != "fixed"},
                         std::pair{"--lm-head int8", options.lm_head.value_or("bf16") == "int8"}};
  for (const auto& [flag, given] : flags) {
    if (!given) continue;
    return make_error(ErrorCode::kInvalidArgument, "{}: belongs to --format w4ax, not to {}", flag,
                      options.format);
  }
  return {};
}

/// Flags that decide what other formats have.
Status refuse_method_flags(const MethodOptions& options) {
  const std::string& format = options.format;
  if (options.smooth.value_or("off") != "off" && format != "w8a8-int") {
    return make_error(ErrorCode::kInvalidArgument,
                      "--smooth: belongs to --format w8a8-int, not to {}{}", format,
                      format == "w8a8-fp8" ? "" : ", which has --equalize");
  }
  if (options.equalize && format.starts_with("w8a8")) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--equalize: belongs to --format w4ax and w4a16, not to {}{}", format,
                      format == "w8a8-int" ? ", which has --smooth" : "");
  }
  if (format != "w8a8-fp8") return {};
  const std::array flags{std::pair{"--weights", options.weights.value_or("rtn") != "rtn"},
                         std::pair{"--weights-scale", options.weights_scale.has_value()},
                         std::pair{"--damp", options.damp.has_value()}};
  for (const auto& [flag, given] : flags) {
    if (!given) continue;
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: --format w8a8-fp8 rounds weights to nearest under absmax scales (rtn)",
                      flag);
  }
  return {};
}

Status refuse_other_formats_flags(const MethodOptions& options) {
  const Status status = refuse_w4ax_flags(options);
  return status ? refuse_method_flags(options) : status;
}

/// Flags that ask something of a BF16 cache that only a narrow one can give.
Status refuse_cache_flags(const MethodOptions& options, const std::string& kv) {
  if (kv != "kv16") return {};
  const std::array flags{std::pair{"--kv-rotate on", options.kv_rotate == "on"},
                         std::pair{"--kv-rotate-values on", options.kv_rotate_values == "on"},
                         std::pair{"--kv-smooth on", options.kv_smooth == "on"},
                         std::pair{"--kv-window", !options.kv_window.empty()}};
  for (const auto& [flag, given] : flags) {
    if (!given) continue;
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: the cache is kv16, whose rows are BF16 already; choose --kv kv4 or kv8",
                      flag);
  }
  return {};
}

Status choose_weights(const MethodOptions& options, quant::QuantizeOptions& chosen) {
  if (options.weights) chosen.weights = *options.weights;
  if (options.damp) chosen.damp = *options.damp;
  if (options.weights_scale) chosen.search_scales = *options.weights_scale == "mse";
  if (chosen.weights == "gptq") return {};
  const std::array flags{std::pair{"--damp", options.damp.has_value()},
                         std::pair{"--weights-scale", options.weights_scale.has_value()}};
  for (const auto& [flag, given] : flags) {
    if (!given) continue;
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: belongs to --weights gptq; here weights are made by {}", flag,
                      chosen.weights);
  }
  return {};
}

Status choose_smoothing(const MethodOptions& options, quant::QuantizeOptions& chosen) {
  const std::string text = options.smooth.value_or("auto");
  if (text == "auto") return {};  // what the format does by itself
  if (text == "off") {
    chosen.smoothing = quant::Smoothing::kOff;
    return {};
  }
  const char* end = text.data() + text.size();
  const auto [rest, code] = std::from_chars(text.data(), end, chosen.smoothing_strength);
  if (code != std::errc() || rest != end) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--smooth {}: expected auto, off or a strength from 0 to 1", text);
  }
  chosen.smoothing = quant::Smoothing::kFixed;
  return {};
}

std::string describe_smoothing(const quant::QuantizeOptions& o) {
  if (o.smoothing == quant::Smoothing::kOff) return "no smoothing";
  if (o.smoothing == quant::Smoothing::kFixed)
    return fmt::format("smoothing {}", o.smoothing_strength);
  return "smoothing searched per site";
}

}  // namespace

Result<quant::QuantizeOptions> quantize_options(const MethodOptions& options,
                                                const io::ModelConfig& config, const Caps& caps) {
  if (const Status status = refuse_other_formats_flags(options); !status) return status.error();
  const std::string& recipe = options.format == "w4ax" ? options.recipe : options.format;
  auto chosen = quant::options_of_recipe(recipe, options.target,
                                         caps.kind == DeviceKind::kCuda && caps.sm < 90);
  if (!chosen) return chosen.error();
  if (const Status status = choose_weights(options, *chosen); !status) return status.error();
  if (const Status status = choose_smoothing(options, *chosen); !status) return status.error();
  if (options.kv) chosen->kv = *options.kv;
  if (const Status status = refuse_cache_flags(options, chosen->kv); !status) {
    return status.error();
  }
  quant::fit_cache_options(*chosen, config);
  quant::fit_scale_type(*chosen, config);
  if (options.kv_rotate) chosen->kv_options.rotate = *options.kv_rotate == "on";
  if (options.kv_rotate_values) chosen->rotate_values = *options.kv_rotate_values == "on";
  if (options.kv_window.size() == 2) {
    chosen->kv_options.window_first = options.kv_window[0];
    chosen->kv_options.window_recent = options.kv_window[1];
  }
  if (options.lm_head) chosen->int8_lm_head = *options.lm_head == "int8";
  if (options.equalize) chosen->equalize = *options.equalize == "on";
  if (options.kv_smooth) chosen->smooth_keys = *options.kv_smooth == "on";
  if (options.int8_share) chosen->int8_share = options.int8_share;
  if (options.int8_blocks) {
    chosen->int8_share.reset();
    chosen->int8_blocks = *options.int8_blocks;
  }
  for (const auto rule : {quant::BlockRule::kError, quant::BlockRule::kKl}) {
    if (options.int8_rule != quant::block_rule_name(rule)) continue;
    chosen->int8_rule = rule;
    if (!options.int8_share) chosen->int8_share.reset();  // a recipe's own leaves nothing to choose
  }
  for (const auto granularity : {formats::Granularity::kChannel, formats::Granularity::kGroup,
                                 formats::Granularity::kProgressive}) {
    if (options.w4 == formats::granularity_name(granularity)) chosen->granularity = granularity;
  }
  for (const auto scale :
       {formats::ActScale::kS1, formats::ActScale::kS2, formats::ActScale::kS2h}) {
    if (options.act_scale == formats::act_scale_name(scale)) chosen->act_scale = scale;
  }
  if (const Status status = quant::check_options(*chosen, config); !status) return status.error();
  return *std::move(chosen);
}

std::string describe(const quant::QuantizeOptions& o) {
  if (o.codes == quant::WeightCodes::kS8) {
    return fmt::format("{}, {}, weights per channel by {}", o.recipe, describe_smoothing(o),
                       o.weights);
  }
  if (o.codes == quant::WeightCodes::kE4M3) {
    return fmt::format("{}, weights per channel by {}", o.recipe, o.weights);
  }
  if (o.act_scale == formats::ActScale::kA16) {
    return fmt::format("{}, weights in groups of 128 by {}", o.recipe, o.weights);
  }
  const std::string int8 = o.int8_share ? fmt::format("INT8 share {} by {}", *o.int8_share,
                                                      quant::block_rule_name(o.int8_rule))
                                        : fmt::format("{} INT8 blocks a site", o.int8_blocks);
  return fmt::format("{}, activations {} with {}, weights {} by {}", o.recipe,
                     formats::act_scale_name(o.act_scale), int8,
                     formats::granularity_name(o.granularity), o.weights);
}

void add_method_options(CLI::App& command, MethodOptions& options) {
  command.add_option("--format", options.format, "Format to write")
      ->check(CLI::IsMember({"w4ax", "w4a16", "w8a8-int", "w8a8-fp8"}));
  command
      .add_option(
          "--recipe", options.recipe,
          "auto (w4a8 on a CPU), w4a8, fmpq, paper or naive; the flags below override parts")
      ->check(CLI::IsMember({"auto", "w4a8", "fmpq", "paper", "naive"}));
  command.add_option("--target", options.target, "Device that auto chooses for")
      ->check(CLI::IsMember({"auto", "cpu", "sm80", "sm90"}));
  command.add_option("--weights", options.weights, "How weights are rounded")
      ->check(CLI::IsMember({"rtn", "clip", "gptq"}));
  command
      .add_option("--weights-scale", options.weights_scale,
                  "Scales that gptq codes with: by MSE search (default for 4 bits) or from absmax")
      ->check(CLI::IsMember({"absmax", "mse"}));
  command.add_option("--damp", options.damp, "Damping of gptq's Hessian (default 0.01)");
  command.add_option("--w4", options.w4, "Span of a weight scale")
      ->check(CLI::IsMember({"channel", "group", "progressive"}));
  command.add_option("--act-scale", options.act_scale, "Span of an activation scale")
      ->check(CLI::IsMember({"S1", "S2", "S2h"}));
  auto* share = command.add_option("--int8-share", options.int8_share,
                                   "Share of multiply-accumulates with 8-bit activations, 0 to 1");
  command.add_option("--int8-blocks", options.int8_blocks, "8-bit blocks of 128 channels per site")
      ->excludes(share);
  command
      .add_option("--int8-rule", options.int8_rule,
                  "How the share is spread over sites: all alike, or by measured effect")
      ->check(CLI::IsMember({"fixed", "kl", "error"}));
  command.add_option("--equalize", options.equalize, "Fold activation outliers into weights")
      ->check(CLI::IsMember({"on", "off"}));
  command.add_option(
      "--smooth", options.smooth,
      "SmoothQuant of w8a8-int: auto (searched per site), off, or a strength 0 to 1");
  command.add_option("--lm-head", options.lm_head, "Type of the output head")
      ->check(CLI::IsMember({"bf16", "int8"}));
  command.add_option("--kv", options.kv, "Cache format (default: kv4 with w4ax, else kv16)")
      ->check(CLI::IsMember({"kv16", "kv8", "kv4"}));
  command.add_option("--kv-smooth", options.kv_smooth, "Fold sqrt(k/q) into the projections")
      ->check(CLI::IsMember({"on", "off"}));
  command.add_option("--kv-rotate", options.kv_rotate, "Rotate queries and keys")
      ->check(CLI::IsMember({"on", "off"}));
  command
      .add_option("--kv-rotate-values", options.kv_rotate_values,
                  "Fold a rotation of the values into the projections (default off)")
      ->check(CLI::IsMember({"on", "off"}));
  command.add_option("--kv-window", options.kv_window, "First and last tokens kept in BF16: s,r")
      ->delimiter(',')
      ->expected(2)
      ->check(CLI::NonNegativeNumber);
}

}  // namespace comet::cli
