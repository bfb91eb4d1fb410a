// Memory, events and graphs of a GPU.
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <stdexcept>

#include "comet/device/cuda/device_memory.h"
#include "comet/device/cuda/graph.h"
#include "comet/device/device.h"
#include "support/gpu.h"

namespace comet {
namespace {

TEST(CudaDevice, MemoryGoesThereAndBack) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  std::vector<int32_t> values(1000);
  std::iota(values.begin(), values.end(), 7);
  Storage pinned(pinned_allocator(), 4000);
  Storage device(device_allocator(DeviceKind::kCuda), 4000);
  Storage back(pinned_allocator(), 4000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(device.data()) % 256, 0U);
  std::memcpy(pinned.data(), values.data(), 4000);
  COMET_CUDA(cudaMemcpyAsync(device.data(), pinned.data(), 4000, cudaMemcpyDefault, gpu->stream));
  COMET_CUDA(cudaMemcpyAsync(back.data(), device.data(), 4000, cudaMemcpyDefault, gpu->stream));
  COMET_CUDA(cudaStreamSynchronize(gpu->stream));
  EXPECT_EQ(std::memcmp(back.data(), values.data(), 4000), 0);
  const Storage empty(gpu_allocator(), 0);
  EXPECT_NE(empty.data(), nullptr);
}

TEST(CudaDevice, OutOfMemorySaysWhatIsFree) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  const GpuMemory before = gpu_memory();
  EXPECT_GT(before.free_bytes, 0U);
  EXPECT_LE(before.free_bytes, before.total_bytes);
  try {
    const Storage huge(gpu_allocator(), before.total_bytes * 4);
    FAIL() << "a card holds four times its memory";
  } catch (const CudaError& error) {
    EXPECT_EQ(error.code, cudaErrorMemoryAllocation);
    EXPECT_NE(std::string(error.what()).find("MiB asked for"), std::string::npos) << error.what();
  }
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);  // nothing sticks
  const Storage small(gpu_allocator(), 1 << 20);
}

TEST(CudaDevice, AGraphRunsWhatWasCaptured) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  const testing::DeviceArray<uint8_t> a(1 << 20);
  const testing::DeviceArray<uint8_t> b(1 << 20);
  const CudaGraph graph = CudaGraph::capture(gpu->stream, [&] {
    COMET_CUDA(cudaMemsetAsync(a.get(), 5, a.bytes(), gpu->stream));
    COMET_CUDA(cudaMemcpyAsync(b.get(), a.get(), a.bytes(), cudaMemcpyDeviceToDevice, gpu->stream));
  });
  COMET_CUDA(cudaStreamSynchronize(gpu->stream));
  EXPECT_EQ(b.to_host()[100], 0xFF);  // not yet
  CudaEvent start;
  CudaEvent end;
  start.record(gpu->stream);
  graph.launch(gpu->stream);
  end.record(gpu->stream);
  EXPECT_GT(end.us_since(start), 0.0);
  EXPECT_EQ(b.to_host(), std::vector<uint8_t>(1 << 20, 5));
}

TEST(CudaDevice, AThrowEndsTheCapture) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  EXPECT_THROW(CudaGraph::capture(gpu->stream, [] { throw std::runtime_error("stop"); }),
               std::runtime_error);
  const testing::DeviceArray<uint8_t> a(16);
  COMET_CUDA(cudaMemsetAsync(a.get(), 1, 16, gpu->stream));
  COMET_CUDA(cudaStreamSynchronize(gpu->stream));
  EXPECT_EQ(a.to_host(), std::vector<uint8_t>(16, 1));
}

}  // namespace
}  // namespace comet
