// AdamW, its guard and the moving average against their definitions in double.
#include "comet/ops/adamw/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "comet/base/rng.h"

namespace comet {
namespace {

using Values = std::vector<float>;

Values random_values(int64_t count, uint64_t seed) {
  Values values(static_cast<size_t>(count));
  Rng rng(seed);
  for (float& value : values) value = rng.next_normal();
  return values;
}

double dot(const Values& a, const Values& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * double{b[i]};
  return sum;
}

View<float, 1> flat(Values& values) {
  return {values.data(), {static_cast<int64_t>(values.size())}};
}
View<const float, 1> flat(const Values& values) {
  return {values.data(), {static_cast<int64_t>(values.size())}};
}

struct Optimized {
  Values value, grad, first, second;
  explicit Optimized(size_t n)
      : value(random_values(static_cast<int64_t>(n), 1)), grad(n), first(n), second(n) {}
  AdamWParameters view() { return {flat(value), flat(grad), flat(first), flat(second), {}}; }
};

TEST(AdamW, IsItsDefinition) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  constexpr size_t kSize = 40000;
  Optimized state(kSize);
  std::vector<double> value(state.value.begin(), state.value.end());
  std::vector<double> first(kSize);
  std::vector<double> second(kSize);
  for (int t = 1; t <= 3; ++t) {
    state.grad = random_values(kSize, 10 + static_cast<uint64_t>(t));
    Values norm(1);
    squared_norm(ctx, flat(norm), flat(state.grad));
    ASSERT_NEAR(norm[0], dot(state.grad, state.grad), 1e-2);
    const double clip = t == 2 ? 0.5 / std::sqrt(double{norm[0]}) : 1.0;
    const double correction1 = 1 - std::pow(0.9, t);
    const double correction2 = 1 - std::pow(0.999, t);
    const Values schedule{1e-2F, static_cast<float>(correction1), static_cast<float>(correction2)};
    AdamWSettings settings;
    settings.weight_decay = 0.05F;
    settings.max_grad_norm = t == 2 ? 0.5F : 0.0F;
    settings.schedule = flat(schedule);
    settings.squared_norm = flat(norm);
    adamw(ctx, state.view(), settings);
    for (size_t i = 0; i < kSize; ++i) {
      const double grad = clip * double{state.grad[i]};
      first[i] = 0.9 * first[i] + 0.1 * grad;
      second[i] = 0.999 * second[i] + 0.001 * grad * grad;
      value[i] = value[i] * (1 - 1e-2 * 0.05) -
                 1e-2 * first[i] / correction1 / (std::sqrt(second[i] / correction2) + 1e-8);
      ASSERT_NEAR(state.value[i], value[i], 2e-6) << t << ' ' << i;
    }
  }
}

TEST(AdamW, AStepWithoutANumberChangesNothing) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  Optimized state(10);
  state.grad[3] = NAN;
  const Values before = state.value;
  Values average(10, 1.0F);
  Values norm(1);
  squared_norm(runtime->context(), flat(norm), flat(state.grad));
  ASSERT_TRUE(std::isnan(norm[0]));
  const Values schedule{1.0F, 0.1F, 0.001F};
  AdamWSettings settings;
  settings.schedule = flat(schedule);
  settings.squared_norm = flat(norm);
  adamw(runtime->context(), state.view(), settings);
  moving_average(runtime->context(), flat(average), flat(state.value), 0.5F, flat(norm));
  EXPECT_EQ(state.value, before);
  EXPECT_EQ(state.first, Values(10));
  EXPECT_EQ(average, Values(10, 1.0F));
  norm[0] = 1.0F;
  moving_average(runtime->context(), flat(average), flat(state.value), 0.75F, flat(norm));
  EXPECT_EQ(average[0], 0.75F + 0.25F * before[0]);
}

}  // namespace
}  // namespace comet
