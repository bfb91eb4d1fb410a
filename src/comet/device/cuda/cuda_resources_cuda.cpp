#include "comet/device/cuda/cuda_resources.h"

#include <fmt/format.h>

#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/device_memory.h"

namespace comet {
namespace {

constexpr int kOldestSm = 80;

Error device_error(int device_idx, const std::string& problem) {
  std::string gpus;
  for (const std::string& line : cuda_device_lines()) gpus += (gpus.empty() ? "" : "; ") + line;
  return make_error(ErrorCode::kUnsupported, "--device cuda:{}: {}; GPUs of this machine: {}",
                    device_idx, problem, gpus.empty() ? "none found" : gpus);
}

}  // namespace

void throw_cuda_error(cudaError_t error, const char* call, const char* file, int line) {
  throw CudaError(error, fmt::format("{} at {}:{}: {} ({})", call, file, line,
                                     cudaGetErrorString(error), cudaGetErrorName(error)));
}

void* Staging::begin(size_t num_bytes) {
  sent_.wait();
  if (host_ == nullptr || num_bytes > host_->bytes()) {
    const size_t capacity = host_ == nullptr ? num_bytes : std::max(num_bytes, 2 * host_->bytes());
    host_.reset();
    host_ = std::make_unique<Storage>(pinned_allocator(), capacity);
  }
  return host_->data();
}

void Staging::send(void* device, size_t num_bytes, cudaStream_t stream) {
  COMET_CUDA(cudaMemcpyAsync(device, host_->data(), num_bytes, cudaMemcpyHostToDevice, stream));
  sent_.record(stream);
}

CudaResources::~CudaResources() {
  cublaslt.reset();
  if (arrivals != nullptr) cudaFree(arrivals);
  if (stream != nullptr) cudaStreamDestroy(stream);
}

Result<std::shared_ptr<CudaResources>> open_cuda(int device_idx, Caps& caps) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    int driver = 0;
    int runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    return device_error(
        device_idx, driver == 0 ? std::string("no NVIDIA driver was found; install one, or use "
                                              "--device cpu")
                                : fmt::format("the driver serves CUDA {}.{}, this program needs "
                                              "{}.{} ({}); update the driver, or use --device "
                                              "cpu",
                                              driver / 1000, driver % 1000 / 10, runtime / 1000,
                                              runtime % 1000 / 10, cudaGetErrorString(error)));
  }
  if (device_idx >= count) return device_error(device_idx, "no such GPU");
  cudaDeviceProp prop{};
  COMET_CUDA(cudaGetDeviceProperties(&prop, device_idx));
  const int sm = prop.major * 10 + prop.minor;
  if (sm < kOldestSm) {
    return device_error(device_idx, fmt::format("{} is sm_{}; this program needs sm_{} or later",
                                                prop.name, sm, kOldestSm));
  }
  COMET_CUDA(cudaSetDevice(device_idx));
  auto resources = std::make_shared<CudaResources>();
  resources->device_idx = device_idx;
  resources->sm = sm;
  resources->num_sms = prop.multiProcessorCount;
  COMET_CUDA(cudaStreamCreateWithFlags(&resources->stream, cudaStreamNonBlocking));
  constexpr size_t kArrivalBytes = CudaResources::kNumArrivals * sizeof(uint32_t);
  COMET_CUDA(cudaMalloc(reinterpret_cast<void**>(&resources->arrivals), kArrivalBytes));
  COMET_CUDA(cudaMemsetAsync(resources->arrivals, 0, kArrivalBytes, resources->stream));
  caps.kind = DeviceKind::kCuda;
  caps.gpu_name = prop.name;
  caps.sm = sm;
  caps.num_sms = prop.multiProcessorCount;
  caps.gpu_memory_bytes = static_cast<int64_t>(prop.totalGlobalMem);
  return resources;
}

}  // namespace comet
