// kv16: keys and values in BF16, rounded to nearest even. Layout of a part: kv16_simd.h.
#pragma once

#include "comet/kv/kv_format.h"

namespace comet::kv {

const KvFormat& kv16_format();

}  // namespace comet::kv
