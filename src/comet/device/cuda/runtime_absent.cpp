// Linked in place of the CUDA sources when nvcc is absent or COMET_CUDA=OFF.
#include "comet/device/device.h"
#include "comet/device/host_memory.h"

namespace comet {

std::vector<std::string> cuda_device_lines() { return {}; }
bool cuda_built() { return false; }
int64_t free_gpu_bytes() { return 0; }
bool is_host_memory(const void* /*data*/) { return true; }

Result<std::shared_ptr<CudaResources>> open_cuda(int device_idx, Caps& /*caps*/) {
  return make_error(
      ErrorCode::kUnsupported,
      "--device cuda:{}: this Comet was built without CUDA; build it where nvcc is, or "
      "use --device cpu",
      device_idx);
}

Allocator& device_allocator(DeviceKind kind) {
  COMET_CHECK(kind == DeviceKind::kCpu, "a build without CUDA has no device memory");
  return host_allocator();
}

}  // namespace comet
