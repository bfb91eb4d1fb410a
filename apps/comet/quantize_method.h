// What `comet quantize` is asked to do with a model's numbers: the flags of the method, what of
// them belongs to which format, and the quant::QuantizeOptions that they make. Callers: quantize.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/comet/command.h"
#include "comet/quant/recipe.h"

namespace comet::cli {

struct MethodOptions {
  std::string format = "w4ax";
  std::string recipe = "auto";
  std::string target = "auto";
  // Overrides of the recipe.
  std::optional<std::string> weights, weights_scale, w4, act_scale, smooth, kv, lm_head, equalize,
      kv_smooth, kv_rotate, kv_rotate_values;
  std::vector<int64_t> kv_window;  // empty, or first and recent tokens
  std::optional<double> damp, int8_share;
  std::optional<int64_t> int8_blocks;
  std::string int8_rule = "fixed";
};

void add_method_options(CLI::App& command, MethodOptions& options);

/// What the flags and, where they are silent, the recipe ask for; --target auto is the device of
/// `caps`. A flag that does not belong to the format, or not to another flag, is an error that
/// names both.
Result<quant::QuantizeOptions> quantize_options(const MethodOptions& options,
                                                const io::ModelConfig& config, const Caps& caps);

/// For the first line of output.
std::string describe(const quant::QuantizeOptions& options);

}  // namespace comet::cli
