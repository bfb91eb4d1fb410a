#include "comet/device/device.h"

#include <gtest/gtest.h>

#include <numeric>
#include <stdexcept>

#include "comet/device/thread_pool.h"

namespace comet {
namespace {

TEST(CpuIsa, ForcedNamesAreCheckedAgainstTheMachine) {
  EXPECT_EQ(select_cpu_isa("").value(), detect_cpu_isa());
  EXPECT_EQ(select_cpu_isa("portable").value(), CpuIsa::kPortable);
  const auto unknown = select_cpu_isa("sse9");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().message.find("COMET_CPU='sse9'"), std::string::npos);
  for (const CpuIsa isa : available_cpu_isas())
    EXPECT_EQ(select_cpu_isa(cpu_isa_name(isa)).value(), isa);
}

TEST(HostAllocator, AlignsSmallAndLargeBlocks) {
  for (const size_t bytes : {size_t{1}, size_t{100}, size_t{64} << 20}) {
    Storage storage(host_allocator(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(storage.data()) % 64, 0U);
    storage.data()[bytes - 1] = std::byte{7};
  }
}

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (const int num_threads : {1, 2, 5}) {
    ThreadPool pool(num_threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<int> hits(round * 3, 0);
      pool.parallel_for(static_cast<int64_t>(hits.size()), [&](int64_t i, int thread_idx) {
        ASSERT_LT(thread_idx, num_threads);
        ++hits[i];
      });
      EXPECT_EQ(std::accumulate(hits.begin(), hits.end(), 0), round * 3);
      for (const int hit : hits) ASSERT_EQ(hit, 1);
    }
  }
}

TEST(ThreadPool, RethrowsTheFirstExceptionAndGoesOn) {
  ThreadPool pool(3);
  EXPECT_THROW(pool.parallel_for(50,
                                 [](int64_t i, int) {
                                   if (i == 17) throw std::runtime_error("task 17");
                                 }),
               std::runtime_error);
  std::atomic<int> count{0};
  pool.parallel_for(50, [&](int64_t, int) { ++count; });
  EXPECT_EQ(count, 50);
}

}  // namespace
}  // namespace comet
