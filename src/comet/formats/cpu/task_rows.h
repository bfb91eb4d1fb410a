// How many output channels a task of a decode step takes. Callers: formats/*/cpu/gemm_rows.cpp.
#pragma once

#include <algorithm>
#include <cstdint>

namespace comet::formats {

/// A run of neighbouring rows: long, because the first rows of a task are not prefetched, but
/// several per thread, to even out. A multiple of 4.
inline int64_t decode_task_rows(int64_t num_rows, int num_threads) {
  constexpr int64_t kTasksPerThread = 4;
  return std::max<int64_t>(4, num_rows / (kTasksPerThread * num_threads) / 4 * 4);
}

}  // namespace comet::formats
