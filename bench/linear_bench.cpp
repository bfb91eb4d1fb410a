#include "bench/linear_bench.h"

#include <algorithm>

#include "comet/base/clock.h"
#include "comet/base/rng.h"
#include "comet/ops/op_table.h"

namespace comet::bench {
namespace {

using formats::LinearWeight;

constexpr double kPassSeconds = 0.25;  // a pass stops after this long

/// Rows of a Gaussian in FP32; they repeat after 64.
Tensor gaussian_rows(int64_t rows, int64_t k) {
  constexpr int64_t kOwnRows = 64;
  const auto bytes = static_cast<size_t>(rows * k) * sizeof(float);
  Tensor x(std::make_shared<Storage>(host_allocator(), bytes), 0, DType::kF32, {rows, k});
  Rng rng(7);
  const int64_t own = std::min(rows, kOwnRows) * k;
  for (int64_t i = 0; i < own; ++i) x.data<float>()[i] = rng.next_normal();
  for (int64_t i = own; i < rows * k; ++i) x.data<float>()[i] = x.data<float>()[i - own];
  return x;
}

/// Mean time of making the input again, with rows and scratch in the cache as after a norm.
double time_input(Context& ctx, const LinearWeight& weight, const Tensor& x) {
  constexpr int kCalls = 8;
  const Stopwatch clock;
  for (int i = 0; i < kCalls; ++i) {
    const ArenaScope scope(ctx.arena);
    weight.backend->input_from_rows(ctx, weight, x);
  }
  return clock.seconds() * 1e6 / kCalls;
}

LinearTiming time_on_cpu(Context& ctx, const std::vector<LinearWeight>& copies,
                         const formats::LinearKernel& kernel, int64_t rows, int repeats) {
  const LinearWeight& weight = copies[0];
  const ArenaScope scope(ctx.arena);
  const Tensor x = gaussian_rows(rows, weight.spec.k);
  const Tensor out = ctx.arena.alloc(DType::kF32, {rows, weight.spec.n()});
  LinearTiming best{1e30, 1e30, {}};
  size_t next = 0;
  for (int pass = 0; pass <= repeats; ++pass) {  // pass 0 warms up
    const ArenaScope pass_scope(ctx.arena);
    const formats::Activation input = weight.backend->input_from_rows(ctx, weight, x);
    const double input_us = time_input(ctx, weight, x);
    int64_t calls = 0;
    const Stopwatch clock;
    do {
      kernel.run(ctx, copies[next], input, out);
      next = (next + 1) % copies.size();
      ++calls;
    } while (calls < static_cast<int64_t>(copies.size()) && clock.seconds() < kPassSeconds);
    const double us = clock.seconds() * 1e6 / static_cast<double>(calls);
    if (pass == 0) continue;
    best.us = std::min(best.us, us);
    best.input_us = std::min(best.input_us, input_us);
  }
  return best;
}

LinearTiming time_with_graphs(Context& ctx, const std::vector<LinearWeight>& copies,
                              const formats::LinearKernel& kernel, int64_t rows, int repeats) {
  const LinearWeight& weight = copies[0];
  const ArenaScope scope(ctx.arena);
  const Tensor x = copy_to_device(ctx, gaussian_rows(rows, weight.spec.k));
  const Tensor out = ctx.arena.alloc(ctx.ops.product_dtype, {rows, weight.spec.n()});
  const formats::Activation input = weight.backend->input_from_rows(ctx, weight, x);
  const auto num_copies = static_cast<int64_t>(copies.size());
  GpuTimerOptions options;
  options.min_replays = std::max(options.min_replays, repeats);
  LinearTiming timing;
  timing.input_us = time_on_gpu(
                        ctx,
                        [&](int64_t) {
                          const ArenaScope call_scope(ctx.arena);
                          weight.backend->input_from_rows(ctx, weight, x);
                        },
                        options)
                        .us;
  options.num_buffers = num_copies;
  const GpuTiming product = time_on_gpu(
      ctx,
      [&](int64_t i) {
        const ArenaScope call_scope(ctx.arena);
        kernel.run(ctx, copies[static_cast<size_t>(i % num_copies)], input, out);
      },
      options);
  timing.us = product.us;
  timing.state = product.state;
  return timing;
}

}  // namespace

LinearTiming time_linear(Context& ctx, const std::vector<LinearWeight>& copies,
                         const formats::LinearKernel& kernel, int64_t rows, int repeats) {
  const auto time = ctx.cuda == nullptr ? time_on_cpu : time_with_graphs;
  return time(ctx, copies, kernel, rows, repeats);
}

}  // namespace comet::bench
