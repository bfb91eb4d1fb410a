#include "comet/formats/schemes/compressed_tensors.h"

#include "comet/formats/schemes/config_reader.h"

namespace comet::formats {
namespace {

constexpr std::string_view kFormats =
    "\"pack-quantized\", \"int-quantized\" or \"float-quantized\"";

std::optional<DiskLayout> layout_of(std::string_view format, std::string_view type) {
  if (format == "pack-quantized") return DiskLayout::kPackQuantized;
  if (format == "int-quantized") return DiskLayout::kIntQuantized;
  if (format == "float-quantized") return DiskLayout::kFloatQuantized;
  if (format == "naive-quantized") {  // the older name of both
    return type == "float" ? DiskLayout::kFloatQuantized : DiskLayout::kIntQuantized;
  }
  return std::nullopt;
}

/// Weights of 4 bits in words.
Scheme read_packed(ConfigReader& weights, ConfigReader& group) {
  Scheme scheme{.layout = DiskLayout::kPackQuantized};
  weights.require("num_bits", {4}, "4");
  weights.require("type", {"int", nullptr}, "\"int\"");
  weights.require("strategy", {"group", "channel"}, "\"group\" or \"channel\"");
  scheme.symmetric = weights.flag("symmetric", true);
  scheme.group_size = weights.integer("group_size", 0);
  if (weights.text("strategy", "") == "channel") {
    scheme.group_size = 0;
  } else if (scheme.group_size != 32 && scheme.group_size != 64 &&
             (scheme.group_size < kBlock || scheme.group_size % kBlock != 0)) {
    weights.fail("group_size", "32, 64 or a multiple of 128");
  }
  weights.require("actorder", {nullptr, "weight", "static", "group", "dynamic"},
                  "null, \"weight\" or \"group\"");
  group.require_absent("input_activations",
                       "null: weights of 4 bits multiply inputs that are not quantized");
  return scheme;
}

/// Weights and inputs of 8 bits.
Scheme read_8bit(ConfigReader& weights, ConfigReader& group, DiskLayout layout) {
  Scheme scheme{.layout = layout};
  const bool is_float = layout == DiskLayout::kFloatQuantized;
  const Json type = is_float ? "float" : "int";
  weights.require("num_bits", {8}, "8");
  weights.require("type", {type}, type.dump());
  weights.require("symmetric", {true, nullptr}, "true (no zero points)");
  weights.require("strategy", {"channel", "tensor"}, "\"channel\" or \"tensor\"");
  weights.require("actorder", {nullptr, "weight", "static"}, "null or \"weight\"");
  scheme.tensor_scale = weights.text("strategy", "") == "tensor";
  const Json* object = group.find("input_activations");
  if (object == nullptr) {
    group.fail("input_activations", "8-bit inputs: weights of 8 bits alone are not read");
    return scheme;
  }
  ConfigReader inputs(object, group.source(), group.path() + "input_activations.");
  inputs.require("num_bits", {8}, "8");
  inputs.require("type", {type}, type.dump());
  inputs.require("symmetric", {true, nullptr}, "true (no zero points)");
  inputs.require("dynamic", {true, false, nullptr}, "true or false");
  scheme.static_input = !inputs.flag("dynamic", false);
  if (scheme.static_input) {
    inputs.require("strategy", {"tensor"}, "\"tensor\" for static scales");
  } else {
    inputs.require("strategy", {"token"}, "\"token\" for dynamic scales");
  }
  if (inputs.error()) group.fail(*inputs.error());
  return scheme;
}

Result<SchemeTable::Row> read_group(const Json& object, std::string_view model_format,
                                    const std::string& source, const std::string& path) {
  SchemeTable::Row row;
  ConfigReader group(&object, source, path);
  row.targets = group.patterns("targets");
  if (row.targets.empty()) group.fail("targets", "a list, such as [\"Linear\"]");
  group.require_absent("output_activations", "null: outputs are not quantized");
  const std::string format = group.text("format", model_format);
  ConfigReader weights(group.find("weights"), source, path + "weights.");
  if (group.find("weights") == nullptr) group.fail("weights", "an object");
  const auto layout = layout_of(format, weights.text("type", "int"));
  if (!layout) {
    group.fail(make_error(ErrorCode::kUnsupported,
                          "{}: quantization_config: the format of {} is '{}'; expected {}", source,
                          path.substr(0, path.size() - 1), format.substr(0, 80), kFormats));
  } else {
    weights.require("dynamic", {nullptr, false}, "false");
    weights.require_absent("block_structure", "null");
    row.scheme = *layout == DiskLayout::kPackQuantized ? read_packed(weights, group)
                                                       : read_8bit(weights, group, *layout);
  }
  if (weights.error()) return *weights.error();
  if (group.error()) return *group.error();
  return row;
}

}  // namespace

Result<std::shared_ptr<const SchemeTable>> read_compressed_tensors(const Json& quantization_config,
                                                                   const std::string& source) {
  ConfigReader root(&quantization_config, source, "");
  root.require("quant_method", {kCompressedTensors}, "\"compressed-tensors\"");
  root.require("quantization_status", {nullptr, "compressed"}, "\"compressed\"");
  root.require_absent("transform_config", "null: rotations are not read");
  if (const Json* sparsity = root.find("sparsity_config");
      sparsity != nullptr && !sparsity->empty()) {
    ConfigReader reader(sparsity, source, "sparsity_config.");
    reader.require("format", {nullptr, "dense"}, "\"dense\": sparse tensors are not read");
    if (reader.error()) root.fail(*reader.error());
  }
  const std::string format = root.text("format", "");
  if (format != "mixed-precision" && !layout_of(format, "int")) root.fail("format", kFormats);
  std::vector<NamePattern> ignore = root.patterns("ignore");
  const Json* groups = root.find("config_groups");
  if (groups == nullptr || !groups->is_object() || groups->empty()) {
    root.fail("config_groups", "an object of groups");
  }
  if (root.error()) return *root.error();
  std::vector<SchemeTable::Row> rows;
  for (const auto& [name, object] : groups->items()) {
    auto row = read_group(object, format, source, "config_groups." + name.substr(0, 40) + ".");
    if (!row) return row.error();
    rows.push_back(*std::move(row));
  }
  return std::make_shared<const SchemeTable>(source, std::move(rows), std::move(ignore));
}

Json quantization_arguments(int num_bits, std::string_view type, std::string_view strategy,
                            int64_t group_size) {
  return {{"num_bits", num_bits},
          {"type", type},
          {"symmetric", true},
          {"strategy", strategy},
          {"group_size", group_size == 0 ? Json() : Json(group_size)},
          {"dynamic", false},
          {"actorder", nullptr},
          {"block_structure", nullptr},
          {"observer", "minmax"},
          {"observer_kwargs", Json::object()}};
}

Json token_arguments(int num_bits, std::string_view type) {
  Json result = quantization_arguments(num_bits, type, "token", 0);
  result["dynamic"] = true;
  result["observer"] = nullptr;
  return result;
}

Json compressed_tensors_manifest(std::string_view disk_format, Json weights,
                                 Json input_activations) {
  return {{"quant_method", kCompressedTensors},
          {"format", disk_format},
          {"quantization_status", "compressed"},
          {"global_compression_ratio", nullptr},
          {"kv_cache_scheme", nullptr},
          {"ignore", {"lm_head"}},
          {"config_groups",
           {{"group_0",
             {{"targets", {"Linear"}},
              {"weights", std::move(weights)},
              {"input_activations", std::move(input_activations)},
              {"output_activations", nullptr}}}}}};
}

}  // namespace comet::formats
