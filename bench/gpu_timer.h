// Times of launches on a GPU: a CUDA graph of several calls that rotate through their buffers,
// replayed; the median of the replays. Callers: `comet bench gemm|attention|ops --device cuda`.
// Without the CUDA backend calling any of these is a broken promise.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "comet/base/json.h"
#include "comet/ops/context.h"

namespace comet::bench {

/// Buffers that are passed over together exceed L2 by this factor, so that each call reads memory.
constexpr int64_t kRotationOverL2 = 3;

struct GpuTimerOptions {
  int64_t num_buffers = 1;  // call(i) uses buffer i % num_buffers; a graph holds each at least once
  int min_replays = 7;
  double min_total_us = 30e3;  // more replays until this much is measured, 100 at most
};

/// What the card did while it was timed; nothing where NVML does not say.
struct GpuState {
  std::optional<double> sm_clock_mhz;
  std::optional<double> power_w;
};

struct GpuTiming {
  double us = 0;  // of one call, gaps between calls included
  GpuState state;
};

/// `call(i)` launches call i on ctx.cuda->stream; i = 0 is run once before anything is recorded
/// (plans, arena). Calls may not synchronize or allocate. ctx.arena's scope is the caller's.
GpuTiming time_on_gpu(Context& ctx, const std::function<void(int64_t)>& call,
                      const GpuTimerOptions& options = {});

/// How many buffers of this many bytes exceed L2 by kRotationOverL2; at least 2.
int64_t num_rotating_buffers(int64_t bytes);

/// Copying on the device: bytes read plus bytes written a second, GB = 10⁹.
double measure_gpu_copy_gb_per_s(Context& ctx);

/// Now, through NVML where libnvidia-ml.so.1 is there.
GpuState read_gpu_state(Context& ctx);
/// {"sm_clock_mhz": x | null, "power_w": x | null}.
Json state_json(const GpuState& state);

}  // namespace comet::bench
