// kv8_fp8: FP8 E4M3 codes of keys and values divided by one scale each per layer, as
// compressed-tensors' kv_cache_scheme has them: head_dim bytes a row (docs/formats.md §3). The
// scales are KvCache's: it divides rows before they come here. Layout of a part: kv8_fp8_simd.h.
#pragma once

#include "comet/kv/kv_format.h"

namespace comet::kv {

const KvFormat& kv8_fp8_format();

}  // namespace comet::kv
