#include "comet/formats/weight_scales.h"

#include <algorithm>
#include <cmath>

namespace comet::formats {

Status check_finite_scales(const QuantizedWeight& weight) {
  const auto is_finite = [](float scale) { return std::isfinite(scale); };
  if (std::all_of(weight.channel_scale.begin(), weight.channel_scale.end(), is_finite) &&
      std::all_of(weight.group_scale.begin(), weight.group_scale.end(), is_finite)) {
    return {};
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "'{}': a weight scale is not a finite number of its type; look for NaN or "
                    "huge weights in the model",
                    weight.name);
}

}  // namespace comet::formats
