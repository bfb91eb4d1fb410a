#include "comet/ops/context.h"

#include <gtest/gtest.h>

#include "comet/ops/op_table.h"

namespace comet {
namespace {

TEST(Runtime, CpuAndAutoGiveACpuContext) {
  for (const char* device : {"cpu", "auto"}) {
    if (device == std::string_view("auto") && cuda_built() && !cuda_device_lines().empty())
      continue;
    auto runtime = Runtime::create(device, 2, "");
    ASSERT_TRUE(runtime.ok());
    const Context& ctx = (*runtime)->context();
    EXPECT_EQ(ctx.device.kind, DeviceKind::kCpu);
    EXPECT_EQ(ctx.caps.num_threads, 2);
    EXPECT_EQ(ctx.pool.num_threads(), 2);
    EXPECT_EQ(ctx.caps.cpu_isa, detect_cpu_isa());
    EXPECT_EQ(&ctx.ops, &cpu_op_table(detect_cpu_isa()));
  }
}

TEST(Runtime, ForcedIsaIsObeyed) {
  auto runtime = Runtime::create("cpu", 1, "portable");
  ASSERT_TRUE(runtime.ok());
  EXPECT_EQ((*runtime)->context().caps.cpu_isa, CpuIsa::kPortable);
  EXPECT_EQ((*runtime)->context().ops.add_row, kRowOpsPortable.add_row);
  EXPECT_FALSE(Runtime::create("cpu", 1, "sse9").ok());
}

TEST(Runtime, CudaIsAnErrorThatSaysWhatToDo) {
  for (const char* device : {"cuda", "cuda:0", "cuda:12"}) {
    const auto runtime = Runtime::create(device, 1, "");
    if (runtime.ok()) continue;  // a machine with such a GPU
    EXPECT_EQ(runtime.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(runtime.error().message.find("--device cuda"), std::string::npos);
    if (cuda_device_lines().empty()) {
      EXPECT_NE(runtime.error().message.find("--device cpu"), std::string::npos);
    }
  }
}

TEST(Runtime, BadNamesAndThreadCountsAreErrors) {
  for (const char* device : {"", "gpu", "cuda:", "cuda:x", "cuda0", "CPU"}) {
    const auto runtime = Runtime::create(device, 1, "");
    ASSERT_FALSE(runtime.ok()) << device;
    EXPECT_EQ(runtime.error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_FALSE(Runtime::create("cpu", -1, "").ok());
  EXPECT_FALSE(Runtime::create("cpu", 100000, "").ok());
}

}  // namespace
}  // namespace comet
