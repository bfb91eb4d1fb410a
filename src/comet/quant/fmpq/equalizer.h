// The equalizer of FMPQ (docs/formats.md §2.2): a channel whose activations are large while its
// weight column is small is scaled down by a power of two, its column up. Exact in floating point.
// Callers: layer_quantizer. Folding into the producers is layer_weights' part.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comet/quant/fmpq/site_stats.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

/// Mean of the two middle values for an even count; 0 for none.
float median(std::vector<float> values);

/// ‖column‖₂ of every column.
std::vector<float> column_norms(const Matrix& weight);

/// Exponent e ≥ 0 of each channel: x is to be divided by 2^e, the column multiplied.
/// e = ⌊log2 r + ¼⌋ for r = min(p99.9/median p99.9, median ‖col‖/‖col‖) ≥ 2, else 0.
std::vector<int> equalizer_exponents(std::span<const float> p999,
                                     std::span<const float> column_norm);

/// 2^exponent of every channel.
std::vector<float> powers_of_two(std::span<const int> exponents);

}  // namespace comet::quant
