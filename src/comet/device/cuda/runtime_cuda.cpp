// Which GPUs the machine has.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "comet/device/device.h"

namespace comet {

std::vector<std::string> cuda_device_lines() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) return {};  // no driver, or none that fits
  std::vector<std::string> lines;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp prop{};
    if (cudaGetDeviceProperties(&prop, i) != cudaSuccess) continue;
    lines.push_back(fmt::format("{}, sm_{}{}, {:.0f} GiB", prop.name, prop.major, prop.minor,
                                static_cast<double>(prop.totalGlobalMem) / (1 << 30)));
  }
  return lines;
}

bool cuda_built() { return true; }

}  // namespace comet
