// QuantizeOptions: everything that decides a quantized model, and the recipes that fill it in
// (docs/formats.md §2.6). A new method or mode is one more value here. Callers: apps, study,
// quantize_model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "comet/base/result.h"
#include "comet/formats/quantized_weight.h"
#include "comet/io/model_config.h"
#include "comet/kv/kv_format.h"
#include "comet/quant/weights/weight_grid.h"

namespace comet::quant {

/// Which sites get the INT8 blocks of int8_share: all alike, or those whose output error, or whose
/// effect on the model's own predictions, they lower most per multiply-accumulate.
enum class BlockRule { kFixed, kError, kKl };
std::string_view block_rule_name(BlockRule rule);  // fixed, error, kl

/// SmoothQuant at the four sites: not at all, at one strength, or at the strength per site that
/// lowers its output error most.
enum class Smoothing { kOff, kFixed, kSearch };

struct QuantizeOptions {
  std::string recipe;           // its name, for the report
  std::string format = "w4ax";  // of the linears
  formats::ActScale act_scale = formats::ActScale::kS2;
  /// Share of the multiply-accumulates in INT8 blocks; when absent, int8_blocks at every site.
  std::optional<double> int8_share;
  int64_t int8_blocks = 1;
  BlockRule int8_rule = BlockRule::kFixed;  // the others need int8_share
  formats::Granularity granularity = formats::Granularity::kChannel;
  WeightCodes codes = WeightCodes::kS4;
  std::string weights = "gptq";    // weight_methods()
  bool search_scales = true;       // of gptq, by MSE; else from absmax
  DType scale_type = DType::kF16;  // of group scales and of 8-bit channels
  double damp = 0.01;              // of gptq
  bool equalize = true;
  Smoothing smoothing = Smoothing::kOff;
  double smoothing_strength = 0.5;  // of kFixed, in [0, 1]
  bool sort_channels = true;
  bool search_activation_clip = true;
  std::string kv = "kv4";
  kv::KvOptions kv_options;  // rotation of q and k, BF16 window: the cache's part
  /// Hadamard on v, folded into Wv and Wo. In no recipe: behind the equalizer it gains nothing
  /// (comet-14m, plain and ×16) and costs one more pass over the calibration text.
  bool rotate_values = false;
  bool smooth_keys = true;  // √(k/q), folded
  bool int8_lm_head = false;
};

/// auto (resolved by `target`: auto, cpu, sm80 or sm90), w4a8, fmpq, paper or naive. auto on auto
/// is the present device: `on_cuda_before_hopper` says that it is a GPU with INT4 tensor cores.
/// w4a16, w8a8-int and w8a8-fp8 are the recipes of the formats of those names.
Result<QuantizeOptions> options_of_recipe(std::string_view name, std::string_view target,
                                          bool on_cuda_before_hopper);

/// Turns off what a recipe asks of the cache but this model or cache format has no use for:
/// rotation where head_dim is no power of two; rotation and smoothing where keys are kept in BF16.
void fit_cache_options(QuantizeOptions& options, const io::ModelConfig& config);

/// Scales of the compressed-tensors formats in the model's own type: what else reads such files
/// casts them to it.
void fit_scale_type(QuantizeOptions& options, const io::ModelConfig& config);

/// Whether text has to go through the layers before they can be rounded: not for FP8 numbers, which
/// need no statistics, unless keys are smoothed for a narrow cache.
bool needs_calibration(const QuantizeOptions& options);

/// Ranges and combinations; the error names the flag or field.
Status check_options(const QuantizeOptions& options, const io::ModelConfig& config);

}  // namespace comet::quant
