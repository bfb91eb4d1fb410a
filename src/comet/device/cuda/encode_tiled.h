// cuTensorMapEncodeTiled of the driver, which is not linked. Callers: what makes tensor maps.
#pragma once

#include <cuda.h>

namespace comet {

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

/// Looked up once. A driver without it is a broken promise.
EncodeTiled encode_tiled();

}  // namespace comet
