#include "comet/quant/weights/int8_rows.h"

#include <algorithm>
#include <cmath>

#include "comet/nn/rms_norm.h"

namespace comet::quant {

Result<formats::QuantizedWeight> quantize_int8_rows(const std::string& name, const Tensor& tensor) {
  constexpr float kMaxCode = 127.0F;
  const int64_t rows = tensor.size(0);
  const int64_t k = tensor.size(1);
  formats::QuantizedWeight weight;
  weight.name = name;
  weight.parts = {name};
  weight.part_rows = {rows};
  weight.site.k = k;
  weight.site.k_padded = k;
  weight.codes.resize(rows * k);
  weight.channel_scale.resize(rows);
  for (int64_t n = 0; n < rows; ++n) {
    const std::vector<float> row = nn::to_float_vector(tensor.slice(0, n, n + 1));
    float absmax = 0.0F;
    for (const float x : row) {
      if (!std::isfinite(x)) {
        return make_error(ErrorCode::kCorrupt,
                          "{}: row {} holds {}; a model with NaN or infinite weights cannot be "
                          "quantized",
                          name, n, x);
      }
      absmax = std::max(absmax, std::fabs(x));
    }
    const float scale = absmax / kMaxCode;
    weight.channel_scale[n] = scale;
    if (!(scale > 0.0F)) continue;
    for (int64_t c = 0; c < k; ++c) {
      weight.codes[n * k + c] =
          static_cast<int8_t>(std::clamp(std::nearbyint(row[c] / scale), -kMaxCode, kMaxCode));
    }
  }
  return weight;
}

}  // namespace comet::quant
