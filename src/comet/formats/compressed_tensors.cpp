#include "comet/formats/compressed_tensors.h"

#include <algorithm>

namespace comet::formats::compressed_tensors {
namespace {

bool contains_text(const Json* list, std::string_view text) {
  return list != nullptr && list->is_array() &&
         std::any_of(list->begin(), list->end(), [&](const Json& entry) { return entry == text; });
}

std::string quoted(std::string_view text) { return fmt::format("\"{}\"", text); }

Status check_group(const Reader& reader, const Group& group) {
  const Json* targets = member(group.json, "targets");
  if (!contains_text(targets, "Linear")) {
    return bad_field(reader, group.path + "targets", targets, "[\"Linear\"]");
  }
  const Json* format = member(group.json, "format");
  if (format != nullptr && *format != reader.disk_format) {
    return bad_field(reader, group.path + "format", format,
                     quoted(reader.disk_format) + " or null");
  }
  return check_absent(reader, group.json, group.path, {"output_activations"},
                      "null: outputs are not quantized");
}

}  // namespace

Error bad_field(const Reader& reader, std::string_view path, const Json* value,
                std::string_view expected) {
  return make_error(ErrorCode::kUnsupported, "{}: quantization_config.{} is {}; {} needs {}",
                    reader.source, path,
                    value == nullptr ? "missing" : value->dump(-1, ' ', true).substr(0, 80),
                    reader.format, expected);
}

const Json* member(const Json* object, std::string_view name) {
  if (object == nullptr || !object->is_object()) return nullptr;
  const auto it = object->find(name);
  return it == object->end() || it->is_null() ? nullptr : &*it;
}

Status check_values(const Reader& reader, const Json* object, const std::string& path,
                    std::initializer_list<Expected> expected) {
  for (const Expected& row : expected) {
    const Json* value = member(object, row.field);
    if (value == nullptr || *value != row.value) {
      return bad_field(reader, path + std::string(row.field), value, row.text);
    }
  }
  return {};
}

Status check_absent(const Reader& reader, const Json* object, const std::string& path,
                    std::initializer_list<std::string_view> fields, std::string_view why) {
  for (const std::string_view field : fields) {
    const Json* value = member(object, field);
    if (value != nullptr) return bad_field(reader, path + std::string(field), value, why);
  }
  return {};
}

Status check_static_weights(const Reader& reader, const Json* weights, const std::string& path) {
  const Json* dynamic = member(weights, "dynamic");
  if (dynamic != nullptr && *dynamic != false) {
    return bad_field(reader, path + "dynamic", dynamic, "false");
  }
  const Json* order = member(weights, "actorder");
  if (order != nullptr && *order != "static" && *order != "weight") {
    return bad_field(reader, path + "actorder", order,
                     "null, \"weight\" or \"static\": channels in the model's order");
  }
  return {};
}

Result<Group> single_group(const Reader& reader, const Json& root) {
  const std::string format = quoted(reader.disk_format);
  const Status names = check_values(reader, &root, "",
                                    {{"quant_method", kMethod, "\"compressed-tensors\""},
                                     {"format", reader.disk_format, format}});
  if (!names) return names.error();
  const Status absent = check_absent(reader, &root, "", {"kv_cache_scheme"},
                                     "null: Comet keeps its cache format in comet_kv_cache");
  if (!absent) return absent.error();
  const Json* groups = member(&root, "config_groups");
  if (groups == nullptr || !groups->is_object() || groups->size() != 1) {
    return bad_field(reader, "config_groups", groups, "one group for all linears");
  }
  if (!contains_text(member(&root, "ignore"), "lm_head")) {
    return bad_field(reader, "ignore", member(&root, "ignore"),
                     "a list with \"lm_head\": the output head stays dense");
  }
  Group group{&groups->begin().value(),
              "config_groups." + groups->begin().key().substr(0, 40) + "."};
  if (const Status s = check_group(reader, group); !s) return s.error();
  return group;
}

Json arguments(int num_bits, std::string_view type, std::string_view strategy, int64_t group_size) {
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
  Json result = arguments(num_bits, type, "token", 0);
  result["dynamic"] = true;
  result["observer"] = nullptr;
  return result;
}

Json config(std::string_view disk_format, Json weights, Json input_activations) {
  return {{"quant_method", kMethod},
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

}  // namespace comet::formats::compressed_tensors
