// SmoothQuant's factors and the search for their strength (Xiao et al. 2022; docs/formats.md §10):
// a site's channel j is divided by s_j = a_j^α / w_j^(1−α), its weight column multiplied, so that
// the INT8 grids of activations and weights share what is hard to round. Callers: site_smoothing,
// which folds them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "comet/ops/context.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

/// max |w| of every column.
std::vector<float> column_absmax(const Matrix& weight);

/// s_j from the activations' absmax a and the columns' absmax w, α = `strength` in [0, 1]. A
/// channel that is always 0 keeps s = 1; a column of zeros counts as the smallest that is not one.
/// Within 2^±16, so that folded values stay far from overflow and underflow.
std::vector<float> smoothing_factors(std::span<const float> absmax,
                                     std::span<const float> column_absmax, double strength);

/// A site whose strength is looked for.
struct SmoothingProblem {
  const Matrix& x;                     // input rows kept from calibration, [n, k]
  const Matrix& weight;                // [rows, k], the parts one after another
  std::span<const int64_t> part_rows;  // of q, k, v; of gate, up; or of one part
  /// The factors of a strength as they would be folded.
  std::function<std::vector<float>(double strength)> factors;
};

/// Strength with the least error of the site's outputs with x / s in A8 (one scale a row) and W·s
/// in W8 (one scale an output channel, to nearest): Σ over parts of ‖ŷ − y‖²/‖y‖², on at most 256
/// rows and 1,024 outputs. None, where no strength of 0.2, 0.25 … 1 beats s = 1.
std::optional<double> search_smoothing(Context& ctx, const SmoothingProblem& problem);

}  // namespace comet::quant
