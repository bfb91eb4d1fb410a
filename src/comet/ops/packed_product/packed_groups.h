// How many rows of a product are cut into groups for a kernel, and groups into tasks for threads.
// Callers: packed_product, formats/w8a8_int. The cut changes no bits.
#pragma once

#include <algorithm>
#include <cstdint>

#include "comet/tensor/tensor.h"

namespace comet {

/// Groups of at most `max_rows` rows, as even as can be.
struct PackedGroups {
  int64_t num_rows = 0;
  int64_t count = 0;

  PackedGroups(int64_t rows, int64_t max_rows)
      : num_rows(rows), count((rows + max_rows - 1) / max_rows) {}
  /// First row of group `idx`; of group `count` the end.
  [[nodiscard]] int64_t begin(int64_t idx) const {
    return idx * (num_rows / count) + std::min(idx, num_rows % count);
  }
  [[nodiscard]] int64_t rows(int64_t idx) const { return begin(idx + 1) - begin(idx); }
};

/// `count` things cut into tasks of at most `most`, so that the last round of tasks has work for
/// every thread.
struct EvenTasks {
  int64_t count = 0;
  int64_t num_tasks = 0;

  EvenTasks(int64_t things, int64_t most, int64_t num_threads) : count(things) {
    const int64_t least = (things + most - 1) / most;
    num_tasks = std::min(things, (least + num_threads - 1) / num_threads * num_threads);
  }
  [[nodiscard]] int64_t begin(int64_t task_idx) const { return task_idx * count / num_tasks; }
  /// Things of the longest task.
  [[nodiscard]] int64_t longest() const { return (count + num_tasks - 1) / num_tasks; }
};

/// What a kernel fetches while it multiplies one of `num_groups` groups by a panel: that group's
/// part of the panel that comes next, so that all have fetched it when its turn comes.
struct PanelAhead {
  const void* first = nullptr;
  int64_t step_bytes = 0;

  /// `row_bytes` of a panel for every step of a kernel, of which a panel has num_steps.
  PanelAhead(const void* panel, int64_t row_bytes, int64_t num_steps, int64_t group,
             int64_t num_groups)
      : step_bytes((row_bytes + num_groups - 1) / num_groups) {
    first = static_cast<const char*>(panel) + group * num_steps * step_bytes;
  }
};

/// Rows [begin, end) of x into L2, before a product that is added to them.
inline void fetch_rows(View<const float, 2> x, int64_t begin, int64_t end) {
  constexpr int64_t kLineFloats = 16;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t i = 0; i < x.size(1); i += kLineFloats) __builtin_prefetch(x.row(row) + i, 1, 2);
  }
}

}  // namespace comet
