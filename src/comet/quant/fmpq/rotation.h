// The Hadamard rotation of S2h (docs/formats.md §1, §2.4): each INT4 block of 128 stored channels
// is multiplied by the orthonormal Sylvester matrix, which is its own inverse, so folding it into
// the weight's columns undoes what the producer kernel does to the activations.
#pragma once

#include <cstdint>

#include "comet/device/thread_pool.h"
#include "comet/formats/quantized_weight.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

/// In place on n values (n a power of two): stages of stride 1, 2, 4 … n/2 of (a + b, a − b), then
/// one product with float(1/√n).
void hadamard(float* x, int64_t n);

/// Rotates the INT4 blocks of rows in stored order (weights or activations); a no-op unless S2h.
void rotate_int4_blocks(ThreadPool& pool, Matrix& stored, const formats::SiteLayout& layout);

}  // namespace comet::quant
