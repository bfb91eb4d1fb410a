// quantization_config of a compressed-tensors "pack-quantized" checkpoint: what of that schema is
// w4a16, checked field by field.
#include <algorithm>

#include "comet/formats/w4a16/w4a16.h"

namespace comet::formats::w4a16 {
namespace {

constexpr std::string_view kMethod = "compressed-tensors";
constexpr std::string_view kDiskFormat = "pack-quantized";

Error bad_field(const std::string& source, std::string_view field, const Json* value,
                std::string_view expected) {
  return make_error(
      ErrorCode::kUnsupported, "{}: quantization_config.{} is {}; w4a16 needs {}", source, field,
      value == nullptr ? "missing" : value->dump(-1, ' ', true).substr(0, 80), expected);
}

const Json* member(const Json* object, std::string_view name) {
  if (object == nullptr || !object->is_object()) return nullptr;
  const auto it = object->find(name);
  return it == object->end() || it->is_null() ? nullptr : &*it;
}

struct Expected {
  std::string_view field;
  Json value;
  std::string_view text;
};

/// Every listed field of `object` (at `path`) has its value.
Status check_values(const Json* object, const std::string& path, const std::string& source,
                    std::initializer_list<Expected> expected) {
  for (const Expected& row : expected) {
    const Json* value = member(object, row.field);
    if (value == nullptr || *value != row.value) {
      return bad_field(source, path + std::string(row.field), value, row.text);
    }
  }
  return {};
}

/// These fields of `object` are null or missing.
Status check_absent(const Json* object, const std::string& path, const std::string& source,
                    std::initializer_list<std::string_view> fields, std::string_view why) {
  for (const std::string_view field : fields) {
    const Json* value = member(object, field);
    if (value != nullptr) return bad_field(source, path + std::string(field), value, why);
  }
  return {};
}

bool contains_text(const Json* list, std::string_view text) {
  return list != nullptr && list->is_array() &&
         std::any_of(list->begin(), list->end(), [&](const Json& entry) { return entry == text; });
}

Status check_weights(const Json* weights, const std::string& path, const std::string& source) {
  const Status values = check_values(weights, path, source,
                                     {{"num_bits", 4, "4"},
                                      {"type", "int", "\"int\""},
                                      {"symmetric", true, "true (no zero points)"},
                                      {"strategy", "group", "\"group\""},
                                      {"group_size", kBlock, "128"}});
  if (!values) return values;
  const Json* dynamic = member(weights, "dynamic");
  if (dynamic != nullptr && *dynamic != false) {
    return bad_field(source, path + "dynamic", dynamic, "false");
  }
  const Json* order = member(weights, "actorder");
  if (order != nullptr && *order != "static" && *order != "weight") {
    return bad_field(source, path + "actorder", order,
                     "null, \"weight\" or \"static\": groups of neighbouring channels");
  }
  return {};
}

Status check_group(const Json& group, const std::string& path, const std::string& source) {
  const Json* targets = member(&group, "targets");
  if (!contains_text(targets, "Linear")) {
    return bad_field(source, path + "targets", targets, "[\"Linear\"]");
  }
  const Json* format = member(&group, "format");
  if (format != nullptr && *format != kDiskFormat) {
    return bad_field(source, path + "format", format, "\"pack-quantized\" or null");
  }
  const Status absent =
      check_absent(&group, path, source, {"input_activations", "output_activations"},
                   "null: activations are not quantized");
  if (!absent) return absent;
  return check_weights(member(&group, "weights"), path + "weights.", source);
}

Status check_all(const Json& root, const std::string& source) {
  const Status names = check_values(&root, "", source,
                                    {{"quant_method", kMethod, "\"compressed-tensors\""},
                                     {"format", kDiskFormat, "\"pack-quantized\""}});
  if (!names) return names;
  const Status absent = check_absent(&root, "", source, {"kv_cache_scheme"},
                                     "null: Comet keeps its cache format in comet_kv_cache");
  if (!absent) return absent;
  const Json* groups = member(&root, "config_groups");
  if (groups == nullptr || !groups->is_object() || groups->size() != 1) {
    return bad_field(source, "config_groups", groups, "one group for all linears");
  }
  if (!contains_text(member(&root, "ignore"), "lm_head")) {
    return bad_field(source, "ignore", member(&root, "ignore"),
                     "a list with \"lm_head\": the output head stays dense");
  }
  const std::string name = groups->begin().key().substr(0, 40);
  return check_group(groups->begin().value(), "config_groups." + name + ".", source);
}

}  // namespace

Result<std::shared_ptr<const FormatConfig>> parse_config(const Json& quantization_config,
                                                         const std::string& source) {
  if (const Status s = check_all(quantization_config, source); !s) return s.error();
  return std::make_shared<const FormatConfig>();
}

Json manifest(const ManifestParts& /*parts*/) {
  const Json weights = {{"num_bits", 4},        {"type", "int"},
                        {"symmetric", true},    {"strategy", "group"},
                        {"group_size", kBlock}, {"dynamic", false},
                        {"actorder", nullptr},  {"block_structure", nullptr},
                        {"observer", "minmax"}, {"observer_kwargs", Json::object()}};
  return {{"quant_method", kMethod},
          {"format", kDiskFormat},
          {"quantization_status", "compressed"},
          {"global_compression_ratio", nullptr},
          {"kv_cache_scheme", nullptr},
          {"ignore", {"lm_head"}},
          {"config_groups",
           {{"group_0",
             {{"targets", {"Linear"}},
              {"weights", weights},
              {"input_activations", nullptr},
              {"output_activations", nullptr}}}}}};
}

}  // namespace comet::formats::w4a16
