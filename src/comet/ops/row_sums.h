// sum_over_rows: sums over the rows of a batch, for gradients of parameters and moments. Rows are
// cut into parts that depend on their number alone and the parts are added in order, so the number
// of threads changes no bit. Callers: the operators of training.
#pragma once

#include <algorithm>
#include <cstdint>

#include "comet/ops/context.h"

namespace comet {

constexpr int64_t kMaxSumParts = 32;
constexpr int64_t kMinRowsPerPart = 16;

/// Calls body(begin, end, partial) for the parts, partial [num_sums] of T starting at 0, then
/// finish(i, Σ partial[i]) for every sum, in double.
template <typename T, typename Body, typename Finish>
void sum_over_rows(Context& ctx, int64_t num_rows, int64_t num_sums, const Body& body,
                   const Finish& finish) {
  const int64_t num_parts = std::clamp(num_rows / kMinRowsPerPart, int64_t{1}, kMaxSumParts);
  const ArenaScope scope(ctx.arena);
  T* partials = reinterpret_cast<T*>(
      ctx.arena.alloc_array<int64_t>((num_parts * num_sums * int64_t{sizeof(T)} + 7) / 8));
  ctx.pool.parallel_for(num_parts, [&](int64_t part, int) {
    T* partial = partials + part * num_sums;
    std::fill_n(partial, num_sums, T{0});
    body(num_rows * part / num_parts, num_rows * (part + 1) / num_parts, partial);
  });
  for (int64_t i = 0; i < num_sums; ++i) {
    double sum = 0;
    for (int64_t part = 0; part < num_parts; ++part) {
      sum += static_cast<double>(partials[part * num_sums + i]);
    }
    finish(i, sum);
  }
}

}  // namespace comet
