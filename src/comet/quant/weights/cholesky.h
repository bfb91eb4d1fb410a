// Cholesky factorization in FP64, blocked and spread over the pool; what GPTQ inverts Hessians
// with. Bit-identical for any number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "comet/device/thread_pool.h"

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

/// Overwrites `a` with L, a = L·Lᵀ. False when a is not positive definite.
bool cholesky(ThreadPool& pool, SymmetricMatrix& a);

}  // namespace comet::quant
