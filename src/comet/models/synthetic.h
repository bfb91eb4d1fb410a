// Models of a published shape with random weights, made in memory (`--synthetic NAME`) or, by
// quant/export, as a checkpoint. For speed and memory figures only; the text they write is noise.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "comet/models/load.h"

namespace comet::models {

struct SyntheticOptions {
  std::string format = "dense";  // dense, w4ax, w4a16, w8a8-int or w8a8-fp8
  std::string kv = "kv16";
  kv::KvOptions kv_options;
  // Of w4ax only, down to int8_blocks.
  formats::Granularity granularity = formats::Granularity::kGroup;
  formats::ActScale act_scale = formats::ActScale::kS2;
  /// INT8 blocks over all blocks of a site, rounded up; when absent, int8_blocks at every site.
  std::optional<double> int8_share = 1.0;
  int64_t int8_blocks = 1;
  bool int8_lm_head = false;
  uint64_t seed = 0;
};

/// Names that synthetic_config knows, comma-separated.
std::string synthetic_names();
Result<io::ModelConfig> synthetic_config(std::string_view name);
/// config.json of a checkpoint of that shape in that format.
Result<Json> synthetic_config_json(std::string_view name, const SyntheticOptions& options);

/// Bytes of the tensors of such a model, in a file or where the device reads them; draws one layer.
Result<int64_t> synthetic_bytes(Context& ctx, const io::ModelConfig& config,
                                const ModelFormat& format, const formats::TensorSource& tensors);

/// A loaded model with Gaussian weights (BF16) or random codes, made where it runs. One that the
/// GPU has no room for is an error before it is begun.
Result<std::unique_ptr<LlamaModel>> make_synthetic_model(Context& ctx, std::string_view name,
                                                         const SyntheticOptions& options);

}  // namespace comet::models
