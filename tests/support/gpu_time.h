// Times of launches for tests that print them. Callers: *_plans_cuda_test.cpp and alike.
#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "comet/device/cuda/graph.h"

namespace comet::testing {

/// Time of a launch in µs: launch(0) … launch(num_launches − 1) as one graph; the median of five
/// replays, behind one that warms up.
inline double median_launch_us(cudaStream_t stream, int num_launches,
                               const std::function<void(int)>& launch) {
  const CudaGraph graph = CudaGraph::capture(stream, [&] {
    for (int i = 0; i < num_launches; ++i) launch(i);
  });
  graph.launch(stream);
  std::vector<double> times;
  for (int i = 0; i < 5; ++i) {
    CudaEvent begin;
    CudaEvent end;
    begin.record(stream);
    graph.launch(stream);
    end.record(stream);
    times.push_back(end.us_since(begin) / num_launches);
  }
  std::ranges::nth_element(times, times.begin() + 2);
  return times[2];
}

}  // namespace comet::testing
