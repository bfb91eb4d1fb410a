#include "bench/nvml.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

namespace comet::bench {
namespace {

constexpr int kSuccess = 0;  // NVML_SUCCESS
constexpr int kSmClock = 1;  // NVML_CLOCK_SM
constexpr int kBusIdChars = 32;

template <typename F>
void find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
}

}  // namespace

Nvml::Nvml() {
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return;
  int (*init)() = nullptr;
  find(library, "nvmlInit_v2", init);
  if (init == nullptr || init() != kSuccess) return;
  find(library, "nvmlDeviceGetHandleByPciBusId_v2", device_by_bus_);
  find(library, "nvmlDeviceGetClockInfo", clock_);
  find(library, "nvmlDeviceGetPowerUsage", power_);
}

GpuState Nvml::state_of(int device_idx) const {
  GpuState state;
  char bus_id[kBusIdChars] = {};
  Device device = nullptr;
  if (device_by_bus_ == nullptr ||
      cudaDeviceGetPCIBusId(bus_id, kBusIdChars, device_idx) != cudaSuccess ||
      device_by_bus_(bus_id, &device) != kSuccess) {
    return state;
  }
  unsigned value = 0;
  if (clock_ != nullptr && clock_(device, kSmClock, &value) == kSuccess) {
    state.sm_clock_mhz = value;
  }
  if (power_ != nullptr && power_(device, &value) == kSuccess) state.power_w = value * 1e-3;
  return state;
}

}  // namespace comet::bench
