// Inference on the CPU by the wall clock. Callers: vision_bench_*.cpp.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

#include "bench/vision_bench.h"

namespace comet::bench {

/// The median and the best of at least 3 batches and 2 seconds, after one that warms up.
inline ForwardTiming time_cpu_forward(Context& ctx, const models::VisionModel& model, int64_t batch,
                                      int64_t size) {
  using Clock = std::chrono::steady_clock;
  const ArenaScope scope(ctx.arena);
  const Tensor images = ctx.arena.alloc(DType::kF32, {batch, size, size, 3});
  std::fill_n(images.data<float>(), images.num_elements(), 0.5F);
  std::vector<double> us;
  double total_us = 0;
  for (int i = 0; i < 4 || total_us < 2e6; ++i) {
    const ArenaScope step(ctx.arena);
    const auto start = Clock::now();
    model.forward(ctx, images);
    const double taken = std::chrono::duration<double, std::micro>(Clock::now() - start).count();
    if (i == 0) continue;
    us.push_back(taken);
    total_us += taken;
  }
  std::nth_element(us.begin(), us.begin() + static_cast<int64_t>(us.size() / 2), us.end());
  return {us[us.size() / 2], *std::min_element(us.begin(), us.end()), {}};
}

}  // namespace comet::bench
