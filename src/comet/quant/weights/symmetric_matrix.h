// SymmetricMatrix: Hessians and their factors in FP64, and the one product that fills and reduces
// them. Callers: hessian, cholesky, gptq. Bit-identical for any number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "comet/ops/context.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

/// A symmetric FP64 matrix [n, n], row-major, of which only the lower triangle is kept.
struct SymmetricMatrix {
  int64_t n = 0;
  std::vector<double> values;

  SymmetricMatrix() = default;
  explicit SymmetricMatrix(int64_t size) : n(size), values(static_cast<size_t>(size * size)) {}
  double& at(int64_t i, int64_t j) { return values[i * n + j]; }
  [[nodiscard]] double at(int64_t i, int64_t j) const { return values[i * n + j]; }
  /// Either triangle.
  [[nodiscard]] double entry(int64_t i, int64_t j) const { return i >= j ? at(i, j) : at(j, i); }
};

/// sum[first + i, first + j] += factor · Σ_t rows[i, t]·rows[j, t] for j ≤ i. The sums over t are
/// FP32 in the kernels' order (so at most some thousand columns), what they are added to is FP64.
void add_gram(Context& ctx, const Matrix& rows, double factor, SymmetricMatrix& sum, int64_t first);

}  // namespace comet::quant
