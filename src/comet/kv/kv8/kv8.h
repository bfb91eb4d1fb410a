// kv8: signed bytes, one FP16 scale per token and KV head: head_dim + 2 bytes a row
// (docs/formats.md §3). Layout of a part and arithmetic: kv8_simd.h.
#pragma once

#include "comet/kv/kv_format.h"

namespace comet::kv {

const KvFormat& kv8_format();

}  // namespace comet::kv
