// quantization_config of "int-quantized" and "float-quantized".
#include "comet/formats/schemes/compressed_tensors.h"
#include "comet/formats/w8a8/channel_codes.h"

namespace comet::formats::w8a8 {

Result<std::shared_ptr<const FormatConfig>> parse_config(const Json& quantization_config,
                                                         const std::string& source) {
  auto table = read_compressed_tensors(quantization_config, source);
  if (!table) return table.error();
  return std::shared_ptr<const FormatConfig>(*std::move(table));
}

Json manifest(const WeightFormat& format) {
  const std::string_view type = format.disk_format == "int-quantized" ? "int" : "float";
  return compressed_tensors_manifest(
      format.disk_format, quantization_arguments(8, type, "channel", 0), token_arguments(8, type));
}

}  // namespace comet::formats::w8a8
