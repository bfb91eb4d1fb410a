// quantization_config as compressed-tensors writes it: the outer part, which every format of that
// ecosystem shares, and checks of the inner one, field by field. Callers: the records of w4a16,
// w8a8-int and w8a8-fp8. Every error names the file, the field and what was expected.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "comet/base/json.h"
#include "comet/base/result.h"

namespace comet::formats::compressed_tensors {

constexpr std::string_view kMethod = "compressed-tensors";

/// Who reads which file, for errors.
struct Reader {
  std::string_view format;       // "w4a16"
  std::string_view disk_format;  // "pack-quantized"
  const std::string& source;
};

struct Expected {
  std::string_view field;
  Json value;
  std::string_view text;
};

/// The one group of linears that a config must have.
struct Group {
  const Json* json = nullptr;
  std::string path;  // "config_groups.group_0."
};

Error bad_field(const Reader& reader, std::string_view path, const Json* value,
                std::string_view expected);
/// Null where `object` is none, or has no such field, or null there.
const Json* member(const Json* object, std::string_view name);
/// Every listed field of `object` (at `path`) has its value.
Status check_values(const Reader& reader, const Json* object, const std::string& path,
                    std::initializer_list<Expected> expected);
/// These fields of `object` are null or missing.
Status check_absent(const Reader& reader, const Json* object, const std::string& path,
                    std::initializer_list<std::string_view> fields, std::string_view why);
/// `dynamic` is false and `actorder` keeps the order of channels.
Status check_static_weights(const Reader& reader, const Json* weights, const std::string& path);

/// The outer part: method, format, lm_head ignored, and one group for all linears, whose outputs
/// stay floats.
Result<Group> single_group(const Reader& reader, const Json& root);

/// What a group says of its weights or inputs; group_size null where it is 0.
Json arguments(int num_bits, std::string_view type, std::string_view strategy, int64_t group_size);
/// The same for inputs that are quantized token by token as they come.
Json token_arguments(int num_bits, std::string_view type);
/// One group for all linears; lm_head stays dense.
Json config(std::string_view disk_format, Json weights, Json input_activations);

}  // namespace comet::formats::compressed_tensors
