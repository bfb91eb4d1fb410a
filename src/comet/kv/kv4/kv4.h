// kv4: four bits a value, an FP16 minimum and scale per token and KV head: 68 bytes per 128 values
// (docs/formats.md §3). Layout of a part and arithmetic: kv4_simd.h.
#pragma once

#include "comet/kv/kv_format.h"

namespace comet::kv {

const KvFormat& kv4_format();

}  // namespace comet::kv
