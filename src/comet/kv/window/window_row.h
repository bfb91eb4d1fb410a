// Where the BF16 window keeps a row; the store that writes and the kernels that read agree here. In
// an anonymous namespace, because files compiled for an instruction set include it.
#pragma once

#include <stdint.h>

namespace comet::kv {
namespace {

/// The first positions in order, behind them a ring of the recent ones; num_recent > 0 where
/// position ≥ num_first.
inline int64_t window_row(int64_t num_first, int64_t num_recent, int64_t position) {
  return position < num_first ? position : num_first + position % num_recent;
}

}  // namespace
}  // namespace comet::kv
