#include "comet/device/cuda/device_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/device.h"
#include "comet/device/host_memory.h"
#include "comet/device/memory_error.h"

namespace comet {
namespace {

constexpr double kMiB = 1 << 20;
constexpr size_t kLeastBytes = 256;  // an empty tensor has an address too

class CudaOutOfMemory final : public CudaError, public OutOfDeviceMemory {
 public:
  CudaOutOfMemory(cudaError_t error, const std::string& what, const OutOfDeviceMemory& memory)
      : CudaError(error, what), OutOfDeviceMemory(memory) {}
};

/// Clears the error that a failed call leaves behind when the process can go on.
[[noreturn]] void throw_out_of_memory(cudaError_t error, size_t bytes) {
  cudaGetLastError();
  const GpuMemory memory = gpu_memory();
  throw CudaOutOfMemory(
      error,
      fmt::format("GPU memory: {:.1f} MiB asked for, {:.1f} of {:.1f} MiB free; take a smaller "
                  "model, batch or --kv-memory",
                  static_cast<double>(bytes) / kMiB, static_cast<double>(memory.free_bytes) / kMiB,
                  static_cast<double>(memory.total_bytes) / kMiB),
      {static_cast<int64_t>(bytes), static_cast<int64_t>(memory.free_bytes)});
}

class GpuAllocator final : public Allocator {
 public:
  std::byte* allocate(size_t bytes) override {
    void* data = nullptr;
    const cudaError_t error = cudaMalloc(&data, std::max(bytes, kLeastBytes));
    if (error == cudaErrorMemoryAllocation) throw_out_of_memory(error, bytes);
    COMET_CUDA(error);
    used_.store(true, std::memory_order_relaxed);
    return static_cast<std::byte*>(data);
  }
  [[nodiscard]] bool used() const { return used_.load(std::memory_order_relaxed); }
  // Called by destructors, also while the process ends: an error here has nowhere to go.
  void free(std::byte* data, size_t /*bytes*/) override { cudaFree(data); }

 private:
  std::atomic<bool> used_{false};
};

class PinnedAllocator final : public Allocator {
 public:
  std::byte* allocate(size_t bytes) override {
    void* data = nullptr;
    COMET_CUDA(cudaMallocHost(&data, std::max(bytes, kLeastBytes)));
    return static_cast<std::byte*>(data);
  }
  void free(std::byte* data, size_t /*bytes*/) override { cudaFreeHost(data); }
};

GpuAllocator& own_gpu_allocator() {
  static GpuAllocator allocator;
  return allocator;
}

}  // namespace

GpuMemory gpu_memory() {
  GpuMemory memory;
  COMET_CUDA(cudaMemGetInfo(&memory.free_bytes, &memory.total_bytes));
  return memory;
}

Allocator& gpu_allocator() { return own_gpu_allocator(); }

/// A process that runs on the CPU alone does not wake the driver.
bool is_host_memory(const void* data) {
  if (!own_gpu_allocator().used()) return true;
  cudaPointerAttributes attributes{};
  COMET_CUDA(cudaPointerGetAttributes(&attributes, data));
  return attributes.type != cudaMemoryTypeDevice;
}

Allocator& pinned_allocator() {
  static PinnedAllocator allocator;
  return allocator;
}

int64_t free_gpu_bytes() { return static_cast<int64_t>(gpu_memory().free_bytes); }

Allocator& device_allocator(DeviceKind kind) {
  return kind == DeviceKind::kCuda ? gpu_allocator() : host_allocator();
}

}  // namespace comet
