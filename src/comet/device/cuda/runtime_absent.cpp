// Linked in place of the CUDA sources when nvcc is absent or COMET_CUDA=OFF.
#include "comet/device/device.h"

namespace comet {

std::vector<std::string> cuda_device_lines() { return {}; }
bool cuda_built() { return false; }

}  // namespace comet
