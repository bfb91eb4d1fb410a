#include "bench/gpu_timer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "bench/nvml.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/device/cuda/graph.h"
#include "comet/ops/cuda/launches.h"

namespace comet::bench {
namespace {

constexpr double kGraphUs = 1000;  // a graph of short calls lasts about this long
constexpr int64_t kMaxCalls = 64;  // of a graph, or one for each buffer
constexpr int kMaxReplays = 100;
constexpr int64_t kCopyBytes = int64_t{1} << 30;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// The second of two runs.
double estimate_us(cudaStream_t stream, const std::function<void(int64_t)>& call) {
  CudaEvent start;
  CudaEvent end;
  call(0);
  start.record(stream);
  call(0);
  end.record(stream);
  return std::max(end.us_since(start), 0.5);
}

int64_t calls_per_graph(double call_us, int64_t num_buffers) {
  const auto wanted = static_cast<int64_t>(std::ceil(kGraphUs / call_us));
  const int64_t rounds = std::max<int64_t>(1, std::min(wanted, kMaxCalls) / num_buffers);
  return rounds * num_buffers;
}

}  // namespace

GpuTiming time_on_gpu(Context& ctx, const std::function<void(int64_t)>& call,
                      const GpuTimerOptions& options) {
  cudaStream_t stream = ctx.cuda->stream;
  const double call_us = estimate_us(stream, call);
  const int64_t calls = calls_per_graph(call_us, options.num_buffers);
  const CudaGraph graph = CudaGraph::capture(stream, [&] {
    for (int64_t i = 0; i < calls; ++i) call(i);
  });
  const double graph_us = call_us * static_cast<double>(calls);
  const int replays = std::clamp(static_cast<int>(options.min_total_us / graph_us),
                                 options.min_replays, std::max(options.min_replays, kMaxReplays));
  for (int i = 0; i < 2; ++i) graph.launch(stream);  // caches, clocks
  std::vector<CudaEvent> events(static_cast<size_t>(replays) + 1);
  events[0].record(stream);
  for (int i = 0; i < replays; ++i) {
    graph.launch(stream);
    events[static_cast<size_t>(i) + 1].record(stream);
  }
  GpuTiming timing;
  events[static_cast<size_t>(replays) / 2].wait();
  timing.state = read_gpu_state(ctx);  // while the second half runs
  events.back().wait();
  COMET_CUDA(cudaGetLastError());
  std::vector<double> us;
  for (size_t i = 1; i < events.size(); ++i) us.push_back(events[i].us_since(events[i - 1]));
  timing.us = median(us) / static_cast<double>(calls);
  return timing;
}

int64_t num_rotating_buffers(int64_t bytes) {
  int device = 0;
  int l2_bytes = 0;
  COMET_CUDA(cudaGetDevice(&device));
  COMET_CUDA(cudaDeviceGetAttribute(&l2_bytes, cudaDevAttrL2CacheSize, device));
  const int64_t wanted = kRotationOverL2 * l2_bytes;
  return std::max<int64_t>(2, (wanted + bytes - 1) / std::max<int64_t>(bytes, 1));
}

double measure_gpu_copy_gb_per_s(Context& ctx) {
  const Storage from(ctx.memory, kCopyBytes);
  const Storage to(ctx.memory, kCopyBytes);
  COMET_CUDA(cudaMemsetAsync(from.data(), 0x5A, kCopyBytes, ctx.cuda->stream));
  const double engine_us =
      time_on_gpu(ctx, [&](int64_t) {
        COMET_CUDA(cudaMemcpyAsync(to.data(), from.data(), kCopyBytes, cudaMemcpyDeviceToDevice,
                                   ctx.cuda->stream));
      }).us;
  // In a graph a copy may go to an engine that is slower than the card's memory: a kernel's counts.
  constexpr int64_t kRowFloats = 1 << 14;
  const auto rows_of = [](const Storage& storage) {
    return ops_cuda::FloatRows{storage.data(), kRowFloats, ops_cuda::FloatType::kF32};
  };
  const int64_t num_rows = kCopyBytes / kRowFloats / static_cast<int64_t>(sizeof(float));
  const double kernel_us =
      time_on_gpu(ctx, [&](int64_t) {
        ops_cuda::launch_convert({rows_of(to), rows_of(from), num_rows, kRowFloats},
                                 ctx.cuda->stream);
      }).us;
  return 2.0 * kCopyBytes / std::min(engine_us, kernel_us) / 1e3;
}

GpuState read_gpu_state(Context& ctx) {
  static const Nvml kNvml;  // opened once
  return kNvml.state_of(ctx.cuda->device_idx);
}

Json state_json(const GpuState& state) {
  return {{"sm_clock_mhz", state.sm_clock_mhz ? Json(*state.sm_clock_mhz) : Json()},
          {"power_w", state.power_w ? Json(*state.power_w) : Json()}};
}

}  // namespace comet::bench
