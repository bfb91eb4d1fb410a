// NVML, opened with dlopen where the machine has it: clock and power of a GPU while it works. Only
// gpu_timer_cuda.cpp uses it.
#pragma once

#include "bench/gpu_timer.h"

namespace comet::bench {

class Nvml {
 public:
  Nvml();
  /// Of CUDA device `device_idx`; empty where NVML is missing or does not say.
  [[nodiscard]] GpuState state_of(int device_idx) const;

 private:
  using Device = struct NvmlDevice*;
  int (*device_by_bus_)(const char* bus_id, Device* device) = nullptr;
  int (*clock_)(Device device, int kind, unsigned* mhz) = nullptr;
  int (*power_)(Device device, unsigned* milliwatts) = nullptr;
};

}  // namespace comet::bench
