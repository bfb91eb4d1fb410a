// The largest sums that can occur: no lane of any kernel may overflow.
#include <gtest/gtest.h>

#include <cmath>

#include "comet/formats/w4ax/w4ax.h"
#include "support/linear_samples.h"

namespace comet::formats::w4ax {
namespace {

using ::comet::testing::bind_w4ax;
using ::comet::testing::random_w4ax;
using ::comet::testing::TensorMap;
using ::comet::testing::W4axShape;

/// A linear of 2 rows with every code `code` and, progressive, w8 = 16·code + offset.
QuantizedWeight constant_weight(const W4axShape& shape, int8_t code, int8_t offset) {
  QuantizedWeight w = random_w4ax(shape, 1);
  std::fill(w.codes.begin(), w.codes.end(), code);
  std::fill(w.channel_scale.begin(), w.channel_scale.end(), 1.0F);
  std::fill(w.group_scale.begin(), w.group_scale.end(), 1.0F);
  std::fill(w.group_multiplier.begin(), w.group_multiplier.end(), uint8_t{16});
  std::fill(w.group_offset.begin(), w.group_offset.end(), offset);
  return w;
}

void expect_product(const QuantizedWeight& weight, float x, double want) {
  TensorMap tensors;
  const LinearWeight bound = bind_w4ax(weight, tensors);
  for (const CpuIsa isa : available_cpu_isas()) {
    const auto runtime = Runtime::cpu(isa, 1);
    Context& ctx = runtime->context();
    for (const int64_t rows : {1, 4, 20}) {
      const ArenaScope scope(ctx.arena);
      const std::vector<float> input(static_cast<size_t>(rows * bound.spec.k), x);
      const Activation a =
          input_from_rows(ctx, bound, View<const float, 2>{input.data(), {rows, bound.spec.k}});
      std::vector<float> out(static_cast<size_t>(rows * 2));
      for (const LinearKernel& kernel : kernels()) {
        if (!kernel.supports(bound, ctx.caps)) continue;
        kernel.run(ctx, bound, a, View<float, 2>{out.data(), {rows, 2}});
        for (const float y : out) ASSERT_NEAR(y, want, std::abs(want) * 1e-5) << kernel.name;
      }
    }
  }
}

TEST(Extremes, LargestCodesOfBothSigns) {
  for (const int64_t k : {128, 4096}) {
    for (const ActScale scale : {ActScale::kS1, ActScale::kS2}) {
      for (const Granularity granularity : {Granularity::kChannel, Granularity::kGroup}) {
        const W4axShape shape{.part_rows = {2},
                              .k = k,
                              .int8_blocks = k / 128,
                              .scale = scale,
                              .granularity = granularity,
                              .permuted = false};
        for (const int8_t code : {-8, 7}) {
          for (const float x : {127.0F, -127.0F}) {
            expect_product(constant_weight(shape, code, 0), x, double{x} * code * double(k));
          }
        }
      }
    }
  }
}

TEST(Extremes, ProgressiveWeights) {
  for (const int64_t k : {128, 2048}) {
    const W4axShape shape{.part_rows = {2},
                          .k = k,
                          .int8_blocks = k / 128,
                          .granularity = Granularity::kProgressive,
                          .permuted = false};
    for (const auto& [code, offset] : std::vector<std::pair<int, int>>{{15, -121}, {0, -119}}) {
      const double w8 = 16.0 * code + offset;  // 119, −119
      for (const float x : {127.0F, -127.0F}) {
        expect_product(
            constant_weight(shape, static_cast<int8_t>(code), static_cast<int8_t>(offset)), x,
            w8 * x * static_cast<double>(k));
      }
    }
  }
}

/// The most channels that the format admits: Σ |q_w·q_x| stays below 2³¹, as ×16 too.
TEST(Extremes, MostChannels) {
  constexpr int64_t kChannels = kMaxChannels;
  const W4axShape shape{
      .part_rows = {2}, .k = kChannels, .int8_blocks = kChannels / 128, .permuted = false};
  expect_product(constant_weight(shape, -8, 0), 127.0F, -8.0 * 127.0 * kChannels);
  W4axShape more = shape;
  more.k = kChannels + 1;
  more.int8_blocks = 0;
  EXPECT_FALSE(pack(random_w4ax(more, 1)).ok());
}

}  // namespace
}  // namespace comet::formats::w4ax
