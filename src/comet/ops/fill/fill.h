// Random contents for synthetic weights: a pure function of kind, seed and stream, the same bytes
// on every device and with any number of threads. Callers: models/synthetic.
#pragma once

#include "comet/ops/context.h"
#include "comet/ops/fill/random_kind.h"

namespace comet {

struct RandomFill {
  RandomKind kind = RandomKind::kNibbles;
  uint64_t seed = 0;
  uint64_t stream = 0;
  Tensor table = {};  // kTable16: 16-bit values [kRandomTableSize] in the device's memory
};

/// Fills `out`, contiguous and in ctx.memory; on a GPU in the order of the stream. kTable16 wants
/// elements of 16 bits.
void random_fill(Context& ctx, const Tensor& out, const RandomFill& fill);

/// What it calls on a GPU.
void random_fill_cuda(Context& ctx, const Tensor& out, const RandomFill& fill);

}  // namespace comet
