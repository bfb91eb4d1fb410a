#include "comet/formats/w4a16/w4a16.h"

#include "comet/formats/float_input.h"
#include "comet/formats/schemes/compressed_tensors.h"

namespace comet::formats {
namespace w4a16 {
namespace {

/// y = Σ_k x·((u − zero)·scale) from the definition.
double dot(const LinearWeight& weight, size_t part, int64_t row, const float* x) {
  const Layout& layout = layout_of(weight);
  const auto* words = reinterpret_cast<const uint32_t*>(weight.tensors[packed_slot(part)].raw());
  const Tensor& scales = weight.tensors[scale_slot(weight, part)];
  const int64_t groups = layout.k_padded / layout.group;
  double sum = 0;
  for (int64_t i = 0; i < weight.spec.k; ++i) {
    const int64_t group = row * groups + i / layout.group;
    const uint32_t word = words[(row * layout.k_padded + i) / kWordCodes];
    const int zero = layout.has_zeros
                         ? weight.tensors[zero_slot(weight, part)].data<uint8_t>()[group]
                         : kCodeOffset;
    const int code = static_cast<int>(word >> (4 * (i % kWordCodes)) & 15U) - zero;
    const int64_t channel = layout.order.empty() ? i : layout.order[i];
    sum += double{x[channel]} * code * double{float_element(scales, group)};
  }
  return sum;
}

void reference_linear(const LinearWeight& weight, const Activation& x, View<float, 2> out) {
  const float* rows = x.parts[0].data<float>();
  for (int64_t token = 0; token < x.rows; ++token) {
    int64_t column = 0;
    for (size_t part = 0; part < weight.spec.parts.size(); ++part) {
      for (int64_t row = 0; row < weight.spec.part_rows[part]; ++row, ++column) {
        double sum = dot(weight, part, row, rows + token * weight.spec.k);
        if (weight.spec.has_bias) {
          sum += double{float_element(weight.tensors[bias_slot(weight, part)], row)};
        }
        out(token, column) = static_cast<float>(sum);
      }
    }
  }
}

}  // namespace

Result<std::shared_ptr<const FormatConfig>> parse_config(const Json& quantization_config,
                                                         const std::string& source) {
  auto table = read_compressed_tensors(quantization_config, source);
  if (!table) return table.error();
  return std::shared_ptr<const FormatConfig>(*std::move(table));
}

Json manifest(const ManifestParts& /*parts*/) {
  return compressed_tensors_manifest("pack-quantized",
                                     quantization_arguments(4, "int", "group", kBlock), nullptr);
}

}  // namespace w4a16

const WeightFormat& w4a16_format() {
  static const WeightFormat format{
      .name = "w4a16",
      .version = 1,
      .parse_config = w4a16::parse_config,
      .bind = w4a16::bind,
      .pack = w4a16::pack,
      .unpack = w4a16::unpack,
      .reference_linear = w4a16::reference_linear,
      .cpu = {.input_from_rows = float_input_from_rows,
              .input_from_norm = float_input_from_norm,
              .input_from_silu_mul = float_input_from_silu_mul,
              .kernels = w4a16::kernels()},
      .cuda = w4a16_cuda_backend(),
      .manifest = w4a16::manifest,
      .quant_method = "compressed-tensors",
      .disk_format = "pack-quantized",
  };
  return format;
}

}  // namespace comet::formats
