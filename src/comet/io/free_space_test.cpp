#include <gtest/gtest.h>

#include "comet/io/file.h"
#include "support/temporary_folder.h"

namespace comet::io {
namespace {

using comet::testing::TemporaryFolder;

constexpr uint64_t kMeminfoBytes = uint64_t{8'000'000} << 10;

/// A root with a /proc/meminfo that says 8,000,000 kB.
void write_meminfo(const TemporaryFolder& root) {
  root.write("proc/meminfo",
             "MemTotal:       16000000 kB\nMemFree: 12 kB\nMemAvailable:    8000000 kB\n");
}

uint64_t available(const TemporaryFolder& root) {
  return available_memory_bytes(root.path() + "/").value();
}

TEST(AvailableMemory, ThisMachine) {
  const uint64_t bytes = available_memory_bytes().value();
  EXPECT_GT(bytes, uint64_t{1} << 20);
  EXPECT_LT(bytes, uint64_t{1} << 50);
}

TEST(AvailableMemory, WithoutCgroups) {
  const TemporaryFolder root;
  write_meminfo(root);
  EXPECT_EQ(available(root), kMeminfoBytes);
}

TEST(AvailableMemory, Cgroup2TakesTheLeastOfTheAncestors) {
  const TemporaryFolder root;
  write_meminfo(root);
  root.write("proc/self/cgroup", "0::/a/b\n");
  root.write("sys/fs/cgroup/a/b/memory.max", "max\n");
  root.write("sys/fs/cgroup/a/b/memory.current", "5000\n");
  EXPECT_EQ(available(root), kMeminfoBytes);
  root.write("sys/fs/cgroup/a/memory.max", "1000000\n");
  root.write("sys/fs/cgroup/a/memory.current", "700000\n");
  EXPECT_EQ(available(root), 300'000U);
  root.write("sys/fs/cgroup/a/memory.stat", "anon 1\nfile 600000\ninactive_file 500000\n");
  EXPECT_EQ(available(root), 800'000U);  // droppable page cache does not count as held
  root.write("sys/fs/cgroup/memory.max", "100\n");
  root.write("sys/fs/cgroup/memory.current", "900\n");
  EXPECT_EQ(available(root), 0U);
}

TEST(AvailableMemory, Cgroup1) {
  const TemporaryFolder root;
  write_meminfo(root);
  root.write("proc/self/cgroup", "9:cpu,cpuacct:/x\n5:memory:/docker/abc\n1:name=systemd:/y\n");
  root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000\n");
  root.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "500\n");
  root.write("sys/fs/cgroup/memory/memory.stat", "inactive_file 9\ntotal_inactive_file 100\n");
  EXPECT_EQ(available(root), 1600U);  // the group's own folder is not mounted here
}

TEST(AvailableMemory, BadFiles) {
  const TemporaryFolder root;
  EXPECT_FALSE(available_memory_bytes(root.path() + "/").ok());
  root.write("proc/meminfo", "MemTotal: 5 kB\nMemAvailable: many\n");
  EXPECT_FALSE(available_memory_bytes(root.path() + "/").ok());
  root.write("proc/meminfo", "");
  EXPECT_FALSE(available_memory_bytes(root.path() + "/").ok());
  write_meminfo(root);
  root.write("proc/self/cgroup", "::\n0:\n0::/../..\nrubbish\n\n");
  EXPECT_EQ(available(root), kMeminfoBytes);
}

TEST(FreeDisk, ExistingAndFuturePaths) {
  const TemporaryFolder folder;
  EXPECT_GT(free_disk_bytes(folder.path()).value(), 0U);
  EXPECT_GT(free_disk_bytes(folder.file("not/yet/there")).value(), 0U);
  EXPECT_GT(free_disk_bytes("relative/not/there").value(), 0U);
  EXPECT_EQ(free_disk_bytes("/proc").value(), 0U);
}

}  // namespace
}  // namespace comet::io
