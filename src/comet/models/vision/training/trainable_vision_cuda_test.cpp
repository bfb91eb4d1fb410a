// A training step on a GPU (BF16 activations and products, FP32 sums and parameters) against the
// CPU's in FP32: loss, gradients, running moments, weights after AdamW; the same bits each time.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstring>

#include "comet/models/vision/training/trainable_vision.h"
#include "comet/ops/adamw/adamw.h"
#include "comet/ops/cross_entropy/cross_entropy.h"
#include "support/drawn_vision.h"

namespace comet::models {
namespace {

/// Of a gradient's difference to the FP32 one, root mean square over that of the gradient:
/// roundings of 2⁻⁹ at every activation, which do not depend on one another, through all blocks
/// twice.
constexpr double kMaxRelativeRms = 0.08;

struct Case {
  const char* architecture;
  int64_t num_images, size;
};

Tensor to_bf16(const Tensor& x) {
  Tensor out = allocate_tensor(host_allocator(), DType::kBF16, x.shape());
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    out.data<BFloat16>()[i] = to_bfloat16(x.data<float>()[i]);
  }
  return out;
}

Tensor zeros(Context& ctx, int64_t count) {
  Tensor host = allocate_tensor(host_allocator(), DType::kF32, {count});
  std::fill_n(host.data<float>(), count, 0.0F);
  return copy_to_device(ctx, host);
}

/// What a step leaves, on the host.
struct Result {
  Tensor losses, grads, buffers, values;
};

/// Forward, loss, backward, AdamW.
Result step_of(Context& ctx, TrainableVision& model, const Tensor& images, const Tensor& targets) {
  const ArenaScope scope(ctx.arena);
  nn::ParameterSet& set = model.parameters();
  const int64_t batch = images.size(0);
  const Tensor losses = zeros(ctx, batch);
  const Tensor keep_host =
      testing::draw("keep", {model.num_blocks(), batch}, 1.0, 0.25);  // as weights of branches
  const Tensor logits =
      model.forward(ctx, images, {.training = true, .keep = copy_to_device(ctx, keep_host)});
  const Tensor dlogits = nn::activations_like(ctx, logits);
  cross_entropy(ctx, losses.view<float, 1>(), dlogits, logits, targets.view<const float, 2>(),
                1.0F / static_cast<float>(batch));
  model.backward(ctx, dlogits);
  const int64_t count = set.values().num_elements();
  const Tensor first = zeros(ctx, count);
  const Tensor second = zeros(ctx, count);
  const Tensor norm = zeros(ctx, 1);
  squared_norm(ctx, norm.view<float, 1>(), set.grads().view<const float, 1>());
  const Tensor schedule = copy_to_device(ctx, [] {
    Tensor host = allocate_tensor(host_allocator(), DType::kF32, {3});
    const std::array<float, 3> values{1e-3F, 0.1F, 0.001F};
    std::copy(values.begin(), values.end(), host.data<float>());
    return host;
  }());
  AdamWSettings settings;
  settings.weight_decay = 0.05F;
  settings.eps = 1e-3F;  // where a gradient's sign is all of it, a rounding would be seen whole
  settings.schedule = schedule.view<const float, 1>();
  settings.squared_norm = norm.view<const float, 1>();
  AdamWParameters parameters{set.values().view<float, 1>(),
                             set.grads().view<const float, 1>(),
                             first.view<float, 1>(),
                             second.view<float, 1>(),
                             {}};
  if (set.shadow().defined()) parameters.shadow = set.shadow().reshape({1, count});
  adamw(ctx, parameters, settings);
  return {copy_to_host(ctx, losses), copy_to_host(ctx, set.grads()),
          copy_to_host(ctx, set.buffer_values()), copy_to_host(ctx, set.values())};
}

double relative_rms(const float* a, const float* b, int64_t count) {
  double error = 0;
  double spread = 0;
  for (int64_t i = 0; i < count; ++i) {
    error += std::pow(double{a[i]} - b[i], 2);
    spread += std::pow(double{b[i]}, 2);
  }
  return std::sqrt(error / std::max(spread, 1e-30));
}

class TrainingCuda : public ::testing::TestWithParam<Case> {
 protected:
  static constexpr int64_t kClasses = 10;
  Tensor images_ = testing::draw(
      "images", {GetParam().num_images, GetParam().size, GetParam().size, 3}, 0.0, 1.0);
  Tensor targets_ = testing::draw("targets", {GetParam().num_images, kClasses}, 0.1, 0.1);
  TrainableVisionConfig config_ = trainable_config(GetParam().architecture, kClasses).value();
};

TEST_P(TrainingCuda, AStepIsTheCpusWithinBf16) {
  auto gpu = Runtime::cuda(0, 2);
  if (!gpu.ok()) GTEST_SKIP() << "no GPU";
  const auto cpu = Runtime::cpu(detect_cpu_isa(), 8);
  Context& gpu_ctx = (*gpu)->context();
  Context& cpu_ctx = cpu->context();
  TrainableVision on_cpu(cpu_ctx, config_);
  TrainableVision on_gpu(gpu_ctx, config_);
  ASSERT_TRUE(on_cpu.load(cpu_ctx, testing::DrawnVision()).ok());
  ASSERT_TRUE(on_gpu.load(gpu_ctx, testing::DrawnVision()).ok());
  const Result expected = step_of(cpu_ctx, on_cpu, images_, targets_);
  const Result got = step_of(gpu_ctx, on_gpu, copy_to_device(gpu_ctx, to_bf16(images_)),
                             copy_to_device(gpu_ctx, targets_));
  EXPECT_LT(relative_rms(got.losses.data<float>(), expected.losses.data<float>(),
                         expected.losses.num_elements()),
            0.01);
  EXPECT_LT(relative_rms(got.buffers.data<float>(), expected.buffers.data<float>(),
                         expected.buffers.num_elements()),
            0.01);
  double largest = 0;
  const auto norm_of = [](const float* x, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += double{x[i]} * x[i];
    return std::sqrt(sum);
  };
  for (const nn::Parameter& p : on_cpu.parameters().parameters()) {
    largest =
        std::max(largest, norm_of(expected.grads.data<float>() + p.offset, p.shape.num_elements()));
  }
  double worst = 0;
  for (const nn::Parameter& p : on_cpu.parameters().parameters()) {
    const int64_t count = p.shape.num_elements();
    const float* want = expected.grads.data<float>() + p.offset;
    const float* have = got.grads.data<float>() + p.offset;
    if (norm_of(want, count) < 1e-5 * largest) {  // zero but for rounding: a bias before a norm
      EXPECT_LT(norm_of(have, count), 0.02 * largest) << p.name;
      continue;
    }
    const double error = relative_rms(have, want, count);
    worst = std::max(worst, error);
    EXPECT_LT(error, kMaxRelativeRms) << p.name;
  }
  std::printf("%s: largest relative error of a gradient %.2e\n", GetParam().architecture, worst);
  EXPECT_LT(relative_rms(got.values.data<float>(), expected.values.data<float>(),
                         expected.values.num_elements()),
            0.01);
}

TEST_P(TrainingCuda, AStepIsTheSameBitsEachTime) {
  auto gpu = Runtime::cuda(0, 2);
  if (!gpu.ok()) GTEST_SKIP() << "no GPU";
  Context& ctx = (*gpu)->context();
  const Tensor images = copy_to_device(ctx, to_bf16(images_));
  const Tensor targets = copy_to_device(ctx, targets_);
  std::array<Result, 2> results;
  for (Result& result : results) {
    TrainableVision model(ctx, config_);
    ASSERT_TRUE(model.load(ctx, testing::DrawnVision()).ok());
    result = step_of(ctx, model, images, targets);
  }
  for (const auto member : {&Result::losses, &Result::grads, &Result::buffers, &Result::values}) {
    const Tensor& a = results[0].*member;
    const Tensor& b = results[1].*member;
    EXPECT_EQ(std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.num_bytes())), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Architectures, TrainingCuda,
                         ::testing::Values(Case{"inception_next_atto", 4, 64},
                                           Case{"inception_next_tiny", 4, 64},
                                           Case{"convnext_tiny", 2, 64}));

}  // namespace
}  // namespace comet::models
