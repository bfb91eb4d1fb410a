// What every format asks of a QuantizedWeight's scales before it packs them. Callers: pack of w4ax,
// w4a16, w8a8-int and w8a8-fp8.
#pragma once

#include "comet/base/result.h"
#include "comet/formats/quantized_weight.h"

namespace comet::formats {

/// kInvalidArgument, naming the weight, when a channel or group scale is not finite.
Status check_finite_scales(const QuantizedWeight& weight);

}  // namespace comet::formats
