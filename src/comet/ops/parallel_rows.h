// parallel_rows: runs a row function over rows, on ctx.pool when the work pays for waking threads.
// Callers: the operators of this room and row producers of formats/. Rows are independent, so the
// split changes no result.
#pragma once

#include <algorithm>
#include <cstdint>

#include "comet/ops/context.h"

namespace comet {

/// Elements below which one thread finishes before a second has woken (about 5 µs of work).
constexpr int64_t kParallelElements = int64_t{1} << 15;
constexpr int64_t kTaskElements = int64_t{1} << 13;

/// Calls body(row_idx) for every row in [0, num_rows); row_elements measures the work of one.
template <typename Body>
void parallel_rows(Context& ctx, int64_t num_rows, int64_t row_elements, const Body& body) {
  if (num_rows < 2 || num_rows * row_elements < kParallelElements) {
    for (int64_t i = 0; i < num_rows; ++i) body(i);
    return;
  }
  const int64_t rows_per_task =
      std::max<int64_t>(1, kTaskElements / std::max<int64_t>(1, row_elements));
  const int64_t num_tasks = (num_rows + rows_per_task - 1) / rows_per_task;
  ctx.pool.parallel_for(num_tasks, [&](int64_t task_idx, int) {
    const int64_t end = std::min(num_rows, (task_idx + 1) * rows_per_task);
    for (int64_t i = task_idx * rows_per_task; i < end; ++i) body(i);
  });
}

}  // namespace comet
