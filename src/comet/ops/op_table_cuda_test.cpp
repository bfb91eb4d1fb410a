// The public operators on a GPU's Context against the same calls on a CPU's: that each slot of the
// table passes its arguments on. The kernels themselves: ops_cuda_test.cpp.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "comet/base/rng.h"
#include "comet/ops/add/add.h"
#include "comet/ops/embedding/embedding.h"
#include "comet/ops/gather_rows/gather_rows.h"
#include "comet/ops/op_table.h"
#include "comet/ops/rms_norm/rms_norm.h"
#include "comet/ops/rope/rope.h"
#include "comet/ops/silu_mul/silu_mul.h"

namespace comet {
namespace {

constexpr int64_t kRows = 5;
constexpr int64_t kSize = 96;

Tensor random_tensor(const Shape& shape, uint64_t seed) {
  Tensor tensor(std::make_shared<Storage>(host_allocator(), shape.num_elements() * 4), 0,
                DType::kF32, shape);
  Rng rng(seed);
  for (int64_t i = 0; i < shape.num_elements(); ++i) tensor.data<float>()[i] = rng.next_normal();
  return tensor;
}

Tensor idx_tensor(const std::vector<int32_t>& values) {
  Tensor tensor(std::make_shared<Storage>(host_allocator(), values.size() * 4), 0, DType::kI32,
                {static_cast<int64_t>(values.size())});
  std::copy(values.begin(), values.end(), tensor.data<int32_t>());
  return tensor;
}

std::span<const int32_t> span_of(const Tensor& idxs) {
  return {idxs.data<int32_t>(), static_cast<size_t>(idxs.size(0))};
}

/// A call changes x in either memory; it has x, y [kRows, kSize], weight [kSize], idxs [kRows].
struct Operands {
  Tensor x, y, weight, idxs;
};
using Call = std::function<void(Context&, const Operands&)>;

class OpTableCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    auto runtime = Runtime::cuda(0, 1);
    if (!runtime.ok()) GTEST_SKIP() << "no GPU";
    gpu_ = *std::move(runtime);
    cpu_ = Runtime::cpu(CpuIsa::kPortable, 1);
  }

  void expect_same(const Call& call) {
    const std::array<Context*, 2> contexts{&cpu_->context(), &gpu_->context()};
    std::array<Tensor, 2> results;
    for (size_t i = 0; i < 2; ++i) {
      Context& ctx = *contexts[i];
      const Operands operands{copy_to_device(ctx, random_tensor({kRows, kSize}, 1)),
                              copy_to_device(ctx, random_tensor({kRows, kSize}, 2)),
                              copy_to_device(ctx, random_tensor({kSize}, 3)),
                              copy_to_device(ctx, idx_tensor({4, 0, 2, 2, 1}))};
      call(ctx, operands);
      results[i] = copy_to_host(ctx, operands.x);
    }
    for (int64_t i = 0; i < kRows * kSize; ++i) {
      const float expected = results[0].data<float>()[i];
      ASSERT_NEAR(results[1].data<float>()[i], expected, 2e-6 * std::abs(expected) + 1e-6) << i;
    }
  }

  std::unique_ptr<Runtime> gpu_;
  std::unique_ptr<Runtime> cpu_;
};

TEST_F(OpTableCuda, ContextIsTheGpus) {
  const Context& ctx = gpu_->context();
  EXPECT_EQ(ctx.device.kind, DeviceKind::kCuda);
  EXPECT_NE(ctx.cuda, nullptr);
  EXPECT_EQ(ctx.ops.product_dtype, DType::kBF16);
  EXPECT_GE(ctx.caps.sm, 80);
  EXPECT_GT(ctx.caps.gpu_memory_bytes, 0);
}

TEST_F(OpTableCuda, EveryOperator) {
  expect_same([](Context& ctx, const Operands& o) {
    embedding(ctx, o.x.view<float, 2>(), o.y, span_of(o.idxs));
  });
  expect_same([](Context& ctx, const Operands& o) {
    const Tensor source = ctx.arena.alloc(DType::kF32, {kRows, kSize});
    embedding(ctx, source.view<float, 2>(), o.y, span_of(o.idxs));
    gather_rows(ctx, o.x.view<float, 2>(), source.view<float, 2>(), o.y, span_of(o.idxs));
  });
  expect_same([](Context& ctx, const Operands& o) {
    gather_rows(ctx, o.x.view<float, 2>(), o.y.view<float, 2>(), ConstRows(), span_of(o.idxs));
  });
  expect_same([](Context& ctx, const Operands& o) {
    rms_norm(ctx, o.x.view<float, 2>(), o.y.view<float, 2>(), o.weight.view<float, 1>(), 1e-5F);
  });
  expect_same([](Context& ctx, const Operands& o) { add(ctx, o.x.view<float, 2>(), o.y); });
  expect_same([](Context& ctx, const Operands& o) {
    silu_mul(ctx, o.x.view<float, 2>(), o.y.view<float, 2>(), o.x.view<float, 2>());
  });
  expect_same([](Context& ctx, const Operands& o) {
    const View<float, 3> heads(o.x.data<float>(), {kRows, 3, 32});
    rope(ctx, heads, span_of(o.idxs), {o.weight.data<float>(), 16});
  });
}

}  // namespace
}  // namespace comet
