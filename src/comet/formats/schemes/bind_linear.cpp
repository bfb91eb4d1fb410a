#include "comet/formats/schemes/bind_linear.h"

#include "comet/formats/dense/dense.h"
#include "comet/formats/schemes/compressed_tensors.h"
#include "comet/formats/schemes/gptq_awq.h"
#include "comet/formats/w4a16/w4a16.h"

namespace comet::formats {
namespace {

Result<const WeightFormat*> format_of(const Scheme& scheme) {
  switch (scheme.layout) {
    case DiskLayout::kDense:
      return &dense_format();
    case DiskLayout::kIntQuantized:
      return find_disk_format(kCompressedTensors, "int-quantized");
    case DiskLayout::kFloatQuantized:
      return find_disk_format(kCompressedTensors, "float-quantized");
    default:
      return &w4a16_format();
  }
}

}  // namespace

Result<ModelScheme> read_quantization_config(const Json& quantization_config,
                                             const std::string& source) {
  const JsonObject object(quantization_config, source + ": quantization_config");
  const auto method = object.string("quant_method");
  if (!method) return method.error();
  const std::string name = method->value_or("");
  if (name == kCompressedTensors || name == "gptq" || name == "awq") {
    const auto table = name == "gptq"  ? read_gptq(quantization_config, source)
                       : name == "awq" ? read_awq(quantization_config, source)
                                       : read_compressed_tensors(quantization_config, source);
    if (!table) return table.error();
    const auto format = format_of((*table)->rows().front().scheme);
    if (!format) return Error{format.error().code, source + ": " + format.error().message};
    const Scheme head = (*table)->find("lm_head");
    if (head.layout == DiskLayout::kDense) return ModelScheme{*format, *table, nullptr};
    const auto head_format = format_of(head);
    if (!head_format)
      return Error{head_format.error().code, source + ": " + head_format.error().message};
    return ModelScheme{*format, *table, *head_format};
  }
  const auto disk_format = object.string("format");
  if (!disk_format) return disk_format.error();
  const auto format = find_disk_format(name, disk_format->value_or(""));
  if (!format) return Error{format.error().code, source + ": " + format.error().message};
  auto config = (*format)->parse_config(quantization_config, source);
  if (!config) return config.error();
  return ModelScheme{*format, *std::move(config), nullptr};
}

Result<LinearWeight> bind_linear(const LinearSpec& spec, const WeightFormat& format,
                                 const FormatConfig* config, const TensorSource& tensors) {
  const auto* table = dynamic_cast<const SchemeTable*>(config);
  if (table == nullptr) return format.bind(spec, config, tensors);
  const auto scheme = table->find(spec);
  if (!scheme) return scheme.error();
  const auto own_format = format_of(*scheme);
  if (!own_format) return own_format.error();
  return (*own_format)->bind(spec, config, tensors);
}

}  // namespace comet::formats
