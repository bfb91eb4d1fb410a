// How a prepared weight of the packed w8a8-int rows lies: what packed_rows.cpp multiplies and
// packed_weights.cpp makes of a bound one. The scales stay in the meta.
#pragma once

#include "comet/formats/format.h"
#include "comet/formats/w8a8_int/cpu/packed/packed_args.h"

namespace comet::formats::w8a8_int::cpu {

/// Tensors: panels of codes I8, behind one another; what is added to sums I32 [whole panels]; the
/// bias F32 [n].
enum PackedSlot { kPanels, kOffsets, kPackedBias };

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

void pack_codes(const CodesIsa& isa, LinearWeight& weight);

}  // namespace comet::formats::w8a8_int::cpu
