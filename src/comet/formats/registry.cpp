#include <algorithm>
#include <array>

#include "comet/formats/dense/dense.h"
#include "comet/formats/format.h"
#include "comet/formats/w4a16/w4a16.h"
#include "comet/formats/w4ax/w4ax.h"
#include "comet/formats/w8a8_fp8/w8a8_fp8.h"
#include "comet/formats/w8a8_int/w8a8_int.h"

namespace comet::formats {

std::string_view granularity_name(Granularity granularity) {
  constexpr std::array<std::string_view, 3> kNames{"channel", "group", "progressive"};
  return kNames.at(static_cast<size_t>(granularity));
}

std::string_view act_scale_name(ActScale scale) {
  constexpr std::array<std::string_view, 5> kNames{"S1", "S2", "S2h", "A16", "token"};
  return kNames.at(static_cast<size_t>(scale));
}

std::span<const WeightFormat* const> weight_formats() {
  static const std::array<const WeightFormat*, 5> formats{
      &dense_format(), &w4a16_format(), &w4ax_format(), &w8a8_int_format(), &w8a8_fp8_format()};
  return formats;
}

Result<const WeightFormat*> find_weight_format(std::string_view name) {
  std::string known;
  for (const WeightFormat* format : weight_formats()) {
    if (format->name == name) return format;
    known += (known.empty() ? "" : ", ") + std::string(format->name);
  }
  return make_error(ErrorCode::kUnsupported, "weight format '{}' is unknown; expected one of {}",
                    name, known);
}

Result<const WeightFormat*> find_disk_format(std::string_view quant_method,
                                             std::string_view disk_format) {
  std::string known;
  for (const WeightFormat* format : weight_formats()) {
    if (format->disk_format.empty()) continue;
    if (format->quant_method == quant_method && format->disk_format == disk_format) return format;
    known += (known.empty() ? "" : ", ") +
             fmt::format("{} of {}", format->disk_format, format->quant_method);
  }
  return make_error(
      ErrorCode::kUnsupported,
      "quantization_config.quant_method is '{}' and its format '{}'; this version reads "
      "{}, and models without quantization_config",
      quant_method, disk_format, known);
}

Status plan_linear(LinearWeight& weight, const Caps& caps) {
  COMET_CHECK(weight.format != nullptr, "linear '{}' is not bound", weight.spec.name);
  const FormatBackend& backend =
      caps.kind == DeviceKind::kCuda ? weight.format->cuda : weight.format->cpu;
  const LinearKernel* best = nullptr;
  double best_us = 0;
  std::string known;
  for (const LinearKernel& kernel : backend.kernels) {
    known += (known.empty() ? "" : ", ") + std::string(kernel.name);
    if (!kernel.supports(weight, caps)) continue;
    const double us = kernel.cost_us(weight, caps);
    if (best == nullptr || us < best_us) {
      best = &kernel;
      best_us = us;
    }
  }
  if (best == nullptr) {
    return make_error(ErrorCode::kUnsupported,
                      "'{}': no {} kernel runs this linear [{}, {}] on this device ({}); existing "
                      "ones: {}",
                      weight.spec.name, weight.format->name, weight.spec.n(), weight.spec.k,
                      caps.kind == DeviceKind::kCuda
                          ? fmt::format("{}, sm_{}", caps.gpu_name, caps.sm)
                          : cpu_isa_name(caps.cpu_isa),
                      known.empty() ? "none" : known);
  }
  weight.backend = &backend;
  weight.kernel = best;
  return {};
}

}  // namespace comet::formats
