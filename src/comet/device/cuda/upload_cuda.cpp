#include "comet/device/cuda/upload.h"

#include <algorithm>
#include <cstring>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/host_memory.h"

namespace comet {
namespace {

constexpr size_t kBufferBytes = size_t{64} << 20;
constexpr size_t kTaskBytes = size_t{1} << 20;
constexpr size_t kLeastStagedBytes = size_t{4} << 20;  // the driver's own staging suits less

void copy_parallel(ThreadPool& pool, std::byte* to, const std::byte* from, size_t num_bytes) {
  const size_t num_tasks = (num_bytes + kTaskBytes - 1) / kTaskBytes;
  pool.parallel_for(static_cast<int64_t>(num_tasks), [&](int64_t task, int) {
    const size_t begin = static_cast<size_t>(task) * kTaskBytes;
    std::memcpy(to + begin, from + begin, std::min(kTaskBytes, num_bytes - begin));
  });
}

}  // namespace

void upload(ThreadPool& pool, CudaResources& cuda, void* device, const void* source,
            size_t num_bytes) {
  if (num_bytes == 0) return;
  if (!is_host_memory(source)) {
    COMET_CUDA(cudaMemcpyAsync(device, source, num_bytes, cudaMemcpyDeviceToDevice, cuda.stream));
    return;
  }
  if (num_bytes < kLeastStagedBytes) {
    COMET_CUDA(cudaMemcpyAsync(device, source, num_bytes, cudaMemcpyHostToDevice, cuda.stream));
    COMET_CUDA(cudaStreamSynchronize(cuda.stream));
    return;
  }
  auto* to = static_cast<std::byte*>(device);
  const auto* from = static_cast<const std::byte*>(source);
  for (size_t at = 0; at < num_bytes; at += kBufferBytes) {
    Staging& buffer = cuda.upload_buffers[at / kBufferBytes % cuda.upload_buffers.size()];
    const size_t size = std::min(kBufferBytes, num_bytes - at);
    auto* staged = static_cast<std::byte*>(buffer.begin(kBufferBytes));
    copy_parallel(pool, staged, from + at, size);
    buffer.send(to + at, size, cuda.stream);
  }
}

}  // namespace comet
