// A training step in BF16 on a GPU against the same in FP32 on the CPU (which the goldens of
// trainable_vision_test.cpp check): logits, all gradients, running moments. Skipped without a GPU.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "comet/models/vision/training/trainable_vision.h"
#include "comet/ops/cross_entropy/cross_entropy.h"
#include "comet/ops/op_table.h"
#include "support/drawn_vision.h"

namespace comet::models {
namespace {

constexpr int64_t kImages = 16;
constexpr int64_t kSize = 64;
constexpr int64_t kClasses = 10;

struct StepResult {
  std::vector<float> logits, losses;
  nn::NamedTensors grads, moments;
};

Tensor of_product_type(Context& ctx, const Tensor& x) {
  if (ctx.ops.product_dtype == DType::kF32) return x;
  Tensor rounded = allocate_tensor(host_allocator(), DType::kBF16, x.shape());
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    rounded.data<BFloat16>()[i] = to_bfloat16(x.data<float>()[i]);
  }
  return copy_to_device(ctx, rounded);
}

std::vector<float> floats(Context& ctx, const Tensor& x) {
  const Tensor host = copy_to_host(ctx, x);
  std::vector<float> values;
  for (int64_t i = 0; i < host.num_elements(); ++i) {
    values.push_back(host.dtype() == DType::kF32 ? host.data<float>()[i]
                                                 : to_float(host.data<BFloat16>()[i]));
  }
  return values;
}

StepResult one_step(Context& ctx, const TrainableVisionConfig& config) {
  TrainableVision model(ctx, config);
  COMET_CHECK(model.load(ctx, testing::DrawnVision()).ok());
  Tensor images = testing::draw("images", {kImages, kSize, kSize, 3}, 0.0, 1.0);
  Tensor targets = testing::draw("targets", {kImages, kClasses}, 1.0, 1.0);
  for (int64_t i = 0; i < targets.num_elements(); ++i) targets.data<float>()[i] /= kClasses;
  Tensor keep = allocate_tensor(host_allocator(), DType::kF32, {model.num_blocks(), kImages});
  for (int64_t i = 0; i < keep.num_elements(); ++i) {
    keep.data<float>()[i] = i % 7 == 0 ? 0.0F : 1.25F;
  }
  const ArenaScope scope(ctx.arena);
  StepResult result;
  const Tensor logits =
      model.forward(ctx, of_product_type(ctx, images), {true, copy_to_device(ctx, keep)});
  result.logits = floats(ctx, logits);
  const Tensor losses = ctx.arena.alloc(DType::kF32, {kImages});
  const Tensor dlogits = nn::activations_like(ctx, logits);
  const Tensor device_targets = copy_to_device(ctx, targets);
  cross_entropy(ctx, losses.view<float, 1>(), dlogits, logits,
                device_targets.view<const float, 2>(), 1.0F / kImages);
  model.backward(ctx, dlogits);
  result.losses = floats(ctx, losses);
  const nn::ParameterSet& set = model.parameters();
  for (auto& entry : set.stored_tensors(ctx, set.grads())) {
    const bool moment = entry.first.find("running_") != std::string::npos;
    (moment ? result.moments : result.grads).push_back(std::move(entry));
  }
  return result;
}

struct Sums {
  double aa = 0, bb = 0, ab = 0;
  void add(double a, double b) {
    aa += a * a;
    bb += b * b;
    ab += a * b;
  }
  [[nodiscard]] double cosine() const { return ab / std::sqrt(aa * bb); }
  /// |a − b| / |b|.
  [[nodiscard]] double error() const { return std::sqrt((aa - 2 * ab + bb) / bb); }
};

Sums sums_of(const Tensor& a, const Tensor& b) {
  Sums sums;
  for (int64_t i = 0; i < a.num_elements(); ++i) {
    sums.add(a.data<float>()[i], b.data<float>()[i]);
  }
  return sums;
}

class TrainableVisionCuda : public ::testing::TestWithParam<const char*> {};

TEST_P(TrainableVisionCuda, AStepInBf16IsNearThatInFp32) {
  const auto gpu = Runtime::cuda(0, 2);
  if (!gpu) GTEST_SKIP() << gpu.error().message;
  const auto cpu = Runtime::cpu(detect_cpu_isa(), 2);
  const auto config = trainable_config(GetParam(), kClasses).value();
  const StepResult expected = one_step(cpu->context(), config);
  const StepResult actual = one_step((*gpu)->context(), config);
  const StepResult again = one_step((*gpu)->context(), config);
  EXPECT_EQ(actual.logits, again.logits);

  Sums logits;
  for (size_t i = 0; i < expected.logits.size(); ++i) {
    logits.add(actual.logits[i], expected.logits[i]);
  }
  Sums all;
  double worst = 1;
  std::string worst_name;
  double largest = 0;
  for (const auto& [name, grad] : expected.grads) {
    largest = std::max(largest, sums_of(grad, grad).aa);
  }
  for (size_t i = 0; i < expected.grads.size(); ++i) {
    const Sums one = sums_of(actual.grads[i].second, expected.grads[i].second);
    ASSERT_TRUE(std::isfinite(one.aa)) << expected.grads[i].first;
    all.aa += one.aa;
    all.bb += one.bb;
    all.ab += one.ab;
    // Tensors whose gradient is far below the others' drown in the rounding of BF16.
    if (one.bb > 1e-6 * largest && one.cosine() < worst) {
      worst = one.cosine();
      worst_name = expected.grads[i].first;
    }
    const Sums repeated = sums_of(again.grads[i].second, actual.grads[i].second);
    EXPECT_EQ(repeated.aa, repeated.ab) << expected.grads[i].first;  // the same bits
  }
  Sums moments;
  for (size_t i = 0; i < expected.moments.size(); ++i) {
    const Sums one = sums_of(actual.moments[i].second, expected.moments[i].second);
    moments.aa += one.aa;
    moments.bb += one.bb;
    moments.ab += one.ab;
  }
  std::printf("%-20s logits off by %.1e, gradients: cosine %.5f, worst %.4f (%s), moments %.1e\n",
              GetParam(), logits.error(), all.cosine(), worst, worst_name.c_str(),
              expected.moments.empty() ? 0.0 : moments.error());
  EXPECT_LT(logits.error(), 0.05);
  EXPECT_GT(all.cosine(), 0.99);
  EXPECT_GT(worst, 0.9) << worst_name;
  EXPECT_LT(expected.moments.empty() ? 0.0 : moments.error(), 0.01);
}

INSTANTIATE_TEST_SUITE_P(Networks, TrainableVisionCuda,
                         ::testing::Values("inception_next_atto", "inception_next_tiny",
                                           "convnext_tiny"),
                         [](const auto& network) { return std::string(network.param); });

}  // namespace
}  // namespace comet::models
