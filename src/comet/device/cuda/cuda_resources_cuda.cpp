#include "comet/device/cuda/cuda_resources.h"

#include <fmt/format.h>

#include <algorithm>

#include "comet/device/cuda/cuda_check.h"

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

Staging::~Staging() {
  if (sent_ != nullptr) cudaEventDestroy(sent_);
  if (data_ != nullptr) cudaFreeHost(data_);
}

void* Staging::begin(size_t num_bytes) {
  if (sent_ == nullptr) COMET_CUDA(cudaEventCreateWithFlags(&sent_, cudaEventDisableTiming));
  COMET_CUDA(cudaEventSynchronize(sent_));
  if (num_bytes > capacity_) {
    if (data_ != nullptr) COMET_CUDA(cudaFreeHost(data_));
    data_ = nullptr;
    capacity_ = std::max(num_bytes, 2 * capacity_);
    COMET_CUDA(cudaHostAlloc(&data_, capacity_, cudaHostAllocDefault));
  }
  return data_;
}

void Staging::send(void* device, size_t num_bytes, cudaStream_t stream) {
  COMET_CUDA(cudaMemcpyAsync(device, data_, num_bytes, cudaMemcpyHostToDevice, stream));
  COMET_CUDA(cudaEventRecord(sent_, stream));
}

CudaResources::~CudaResources() {
  cublaslt.reset();
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
  caps.kind = DeviceKind::kCuda;
  caps.gpu_name = prop.name;
  caps.sm = sm;
  caps.num_sms = prop.multiProcessorCount;
  caps.gpu_memory_bytes = static_cast<int64_t>(prop.totalGlobalMem);
  return resources;
}

}  // namespace comet
