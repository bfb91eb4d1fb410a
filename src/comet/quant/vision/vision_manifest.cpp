#include "comet/quant/vision/vision_manifest.h"

#include "comet/formats/schemes/compressed_tensors.h"

namespace comet::quant {

void VisionManifest::add(const models::VisionProduct& product,
                         const formats::PackedLinear& packed) {
  if (!packed.site.is_null()) sites_.push_back(packed.site);
  if (!packed.linear.is_null()) linears_.push_back(packed.linear);
  if (product.k() % formats::kBlock != 0) undivided_.push_back(product.name);
}

Json VisionManifest::json(const formats::WeightFormat& format,
                          const QuantizeOptions& options) const {
  Json manifest = format.manifest(
      {.granularity = options.granularity,
       .act_scale = options.act_scale,
       .int8_lm_head = false,
       .kv_cache = {{"format", "kv16"}, {"rotate", false}, {"window", {0, 0}}},  // of no meaning
       .sites = sites_,
       .linears = linears_});
  if (format.quant_method != formats::kCompressedTensors) return manifest;
  manifest["ignore"] = {"stem.0"};
  if (options.act_scale != formats::ActScale::kA16 || undivided_.empty()) return manifest;
  Json& groups = manifest["config_groups"];
  Json whole_rows = groups["group_0"];
  whole_rows["targets"] = undivided_;
  whole_rows["weights"] = formats::quantization_arguments(4, "int", "channel", 0);
  groups["group_1"] = std::move(whole_rows);
  return manifest;
}

}  // namespace comet::quant
