// quantization_config of "int-quantized" and "float-quantized": what of that schema is w8a8.
#include "comet/formats/compressed_tensors.h"
#include "comet/formats/w8a8/channel_codes.h"

namespace comet::formats::w8a8 {
namespace {

using compressed_tensors::check_values;
using compressed_tensors::member;
using compressed_tensors::Reader;

std::string_view type_of(const WeightFormat& format) {
  return format.disk_format == "int-quantized" ? "int" : "float";
}

Status check_group(const Reader& reader, std::string_view type,
                   const compressed_tensors::Group& group) {
  const std::string quoted = fmt::format("\"{}\"", type);
  const Json* weights = member(group.json, "weights");
  Status status = check_values(reader, weights, group.path + "weights.",
                               {{"num_bits", 8, "8"},
                                {"type", type, quoted},
                                {"symmetric", true, "true (no zero points)"},
                                {"strategy", "channel", "\"channel\""}});
  if (!status) return status;
  status = check_static_weights(reader, weights, group.path + "weights.");
  if (!status) return status;
  return check_values(reader, member(group.json, "input_activations"),
                      group.path + "input_activations.",
                      {{"num_bits", 8, "8"},
                       {"type", type, quoted},
                       {"symmetric", true, "true (no zero points)"},
                       {"strategy", "token", "\"token\""},
                       {"dynamic", true, "true (scales are computed as tokens come)"}});
}

}  // namespace

Result<std::shared_ptr<const FormatConfig>> parse_config(const WeightFormat& format,
                                                         const Json& quantization_config,
                                                         const std::string& source) {
  const Reader reader{format.name, format.disk_format, source};
  const auto group = compressed_tensors::single_group(reader, quantization_config);
  if (!group) return group.error();
  if (const Status s = check_group(reader, type_of(format), *group); !s) return s.error();
  return std::make_shared<const FormatConfig>();
}

Json manifest(const WeightFormat& format) {
  const std::string_view type = type_of(format);
  return compressed_tensors::config(format.disk_format,
                                    compressed_tensors::arguments(8, type, "channel", 0),
                                    compressed_tensors::token_arguments(8, type));
}

}  // namespace comet::formats::w8a8
