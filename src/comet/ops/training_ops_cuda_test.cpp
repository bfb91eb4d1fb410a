// The operators of training on a GPU (BF16 activations) against the CPU's (FP32) on the same
// rounded values: columns that fill no vector, rows that fill no CTA, gradients that are added to.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "comet/ops/adamw/adamw.h"
#include "comet/ops/batch_norm/batch_norm.h"
#include "comet/ops/cross_entropy/cross_entropy.h"
#include "comet/ops/image_input/image_input.h"
#include "comet/ops/layer_norm/layer_norm_backward.h"
#include "comet/ops/layer_scale/layer_scale.h"
#include "comet/ops/ops_cuda_fixture.h"
#include "comet/ops/product/product.h"
#include "comet/ops/set_zero/set_zero.h"

namespace comet {
namespace {

using testing::rounded;

/// Of sums of FP32 in another order, relative to the largest.
constexpr double kSumSlack = 2e-5;

const std::array<Shape, 6> kRowShapes{
    {{7, 96}, {1000, 40}, {333, 13}, {4, 768}, {130, 1024}, {9, 3000}}};

class TrainingOpsCuda : public testing::OpsCuda {
 protected:
  /// FP32 on a host, every value `value`.
  static Tensor filled(const Shape& shape, float value) {
    Tensor tensor = allocate_tensor(host_allocator(), DType::kF32, shape);
    std::fill_n(tensor.data<float>(), tensor.num_elements(), value);
    return tensor;
  }
  Tensor copy(const Tensor& x) { return copy_to_device(gpu(), x); }
  /// A mean that is not 0, as before a norm.
  static Tensor shifted_rows(const Shape& shape, uint64_t seed) {
    Tensor x = rounded(shape, seed);
    for (int64_t i = 0; i < x.num_elements(); ++i) {
      x.data<float>()[i] = to_float(to_bfloat16(x.data<float>()[i] + 3.0F));
    }
    return x;
  }
};

View<float, 1> flat(const Tensor& x) { return x.view<float, 1>(); }
View<const float, 1> flat_const(const Tensor& x) { return x.view<const float, 1>(); }

TEST_F(TrainingOpsCuda, ColumnSumsAreAddedTo) {
  for (const Shape& shape : kRowShapes) {
    SCOPED_TRACE(shape.to_string());
    const Tensor x = rounded(shape, 1);
    const Tensor sums = filled({shape[1]}, 2.0F);
    const Tensor gpu_sums = copy(sums);
    column_sums(cpu(), flat(sums), x);
    column_sums(gpu(), flat(gpu_sums), on_gpu(x));
    expect_near(gpu_sums, sums, kSumSlack, 0);
  }
}

/// The six vectors of a batch norm, on one device.
struct Norm {
  Tensor weight, bias, mean, inv_std, running_mean, running_variance, weight_grad, bias_grad;

  [[nodiscard]] BatchMoments moments() const { return {flat(mean), flat(inv_std)}; }
  [[nodiscard]] RunningMoments running() const {
    return {flat(running_mean), flat(running_variance), 0.1F};
  }
  [[nodiscard]] BatchNormWeights weights() const {
    return {flat_const(weight), flat_const(bias), 1e-5F};
  }
  [[nodiscard]] NormGrads grads() const { return {flat(weight_grad), flat(bias_grad)}; }
};

TEST_F(TrainingOpsCuda, BatchNormAndItsGradients) {
  for (const Shape& shape : kRowShapes) {
    SCOPED_TRACE(shape.to_string());
    const Shape n{shape[1]};
    const Norm host{rounded(n, 2),   rounded(n, 3),   filled(n, -7), filled(n, -7),
                    filled(n, 0.5F), filled(n, 2.0F), filled(n, 1),  filled(n, 1)};
    const Norm device{copy(host.weight),      copy(host.bias),         copy(host.mean),
                      copy(host.inv_std),     copy(host.running_mean), copy(host.running_variance),
                      copy(host.weight_grad), copy(host.bias_grad)};
    const Tensor x = shifted_rows(shape, 1);
    const Tensor gpu_x = on_gpu(x);
    batch_moments(cpu(), host.moments(), host.running(), x, 1e-5F);
    batch_moments(gpu(), device.moments(), device.running(), gpu_x, 1e-5F);
    expect_near(device.mean, host.mean, kSumSlack, 0);
    expect_near(device.inv_std, host.inv_std, 1e-4, 0);
    expect_near(device.running_mean, host.running_mean, kSumSlack, 0);
    expect_near(device.running_variance, host.running_variance, 1e-4, 0);
    const Tensor out = filled(shape, 0);
    const Tensor gpu_out = poisoned(shape);
    batch_norm(cpu(), out, x, host.moments(), host.weights());
    batch_norm(gpu(), gpu_out, gpu_x, device.moments(), device.weights());
    expect_near(gpu_out, out, 1e-4);
    const Tensor dy = rounded(shape, 4);
    batch_norm_backward(cpu(), out, host.grads(), dy, x, host.moments(), host.weights());
    batch_norm_backward(gpu(), gpu_out, device.grads(), on_gpu(dy), gpu_x, device.moments(),
                        device.weights());
    expect_near(gpu_out, out, 1e-4);
    expect_near(device.weight_grad, host.weight_grad, 1e-4, 0);
    expect_near(device.bias_grad, host.bias_grad, kSumSlack, 0);
  }
}

TEST_F(TrainingOpsCuda, LayerNormGradients) {
  for (const Shape& shape : kRowShapes) {
    SCOPED_TRACE(shape.to_string());
    const Tensor weight = rounded({shape[1]}, 2);
    const Tensor bias = rounded({shape[1]}, 3);
    const std::array<Tensor, 2> grads{filled({shape[1]}, 1), filled({shape[1]}, 1)};
    const std::array<Tensor, 2> gpu_grads{copy(grads[0]), copy(grads[1])};
    const Tensor gpu_weight = copy(weight);
    const Tensor gpu_bias = copy(bias);
    const Tensor x = shifted_rows(shape, 1);
    const Tensor dy = rounded(shape, 4);
    const Tensor dx = filled(shape, 0);
    const Tensor gpu_dx = on_gpu(dy);  // in place, as nn does
    layer_norm_backward(cpu(), dx, {flat(grads[0]), flat(grads[1])}, dy, x,
                        {flat_const(weight), flat_const(bias), 1e-6F});
    layer_norm_backward(gpu(), gpu_dx, {flat(gpu_grads[0]), flat(gpu_grads[1])}, gpu_dx, on_gpu(x),
                        {flat_const(gpu_weight), flat_const(gpu_bias), 1e-6F});
    expect_near(gpu_dx, dx, 1e-4);
    expect_near(gpu_grads[0], grads[0], 1e-4, 0);
    expect_near(gpu_grads[1], grads[1], kSumSlack, 0);
  }
}

TEST_F(TrainingOpsCuda, LayerScaleWithAndWithoutDropPath) {
  for (const Shape& shape : {Shape{12, 96}, Shape{36, 13}, Shape{1200, 384}}) {
    for (const bool drops : {false, true}) {
      SCOPED_TRACE(fmt::format("{} drops {}", shape.to_string(), drops));
      Tensor keep = filled({4}, 1.25F);
      keep.data<float>()[2] = 0.0F;
      const Tensor gamma = rounded({shape[1]}, 1);
      const Tensor dgamma = filled({shape[1]}, 1);
      const Tensor gpu_keep = copy(keep);
      const Tensor gpu_gamma = copy(gamma);
      const Tensor gpu_dgamma = copy(dgamma);
      const View<const float, 1> none;
      const LayerScale host{flat_const(gamma), drops ? flat_const(keep) : none};
      const LayerScale device{flat_const(gpu_gamma), drops ? flat_const(gpu_keep) : none};
      const Tensor x = rounded(shape, 2);
      const Tensor branch = rounded(shape, 3);
      const Tensor out = filled(shape, 0);
      const Tensor gpu_out = poisoned(shape);
      layer_scale(cpu(), out, x, branch, host);
      layer_scale(gpu(), gpu_out, on_gpu(x), on_gpu(branch), device);
      expect_near(gpu_out, out, 1e-6);
      const Tensor dy = rounded(shape, 4);
      const Tensor gpu_branch = on_gpu(branch);  // written over
      layer_scale_backward(cpu(), out, flat(dgamma), dy, branch, host);
      layer_scale_backward(gpu(), gpu_branch, flat(gpu_dgamma), on_gpu(dy), gpu_branch, device);
      expect_near(gpu_branch, out, 1e-6);
      expect_near(gpu_dgamma, dgamma, kSumSlack, 0);
    }
  }
}

TEST_F(TrainingOpsCuda, CrossEntropyOfSoftTargets) {
  for (const Shape& shape : {Shape{5, 10}, Shape{128, 1000}, Shape{3, 1}, Shape{2, 4099}}) {
    SCOPED_TRACE(shape.to_string());
    const Tensor logits = rounded(shape, 1, 4.0F);
    Tensor targets = filled(shape, 0.1F / static_cast<float>(shape[1]));
    for (int64_t row = 0; row < shape[0]; ++row) {
      targets.data<float>()[row * shape[1] + row * 7 % shape[1]] += 0.9F;
    }
    const Tensor losses = filled({shape[0]}, -1);
    const Tensor dlogits = filled(shape, 0);
    const Tensor gpu_losses = copy(losses);
    const Tensor gpu_dlogits = poisoned(shape);
    const Tensor gpu_targets = copy(targets);
    const float scale = 1.0F / static_cast<float>(shape[0]);
    cross_entropy(cpu(), flat(losses), dlogits, logits, targets.view<const float, 2>(), scale);
    cross_entropy(gpu(), flat(gpu_losses), gpu_dlogits, on_gpu(logits),
                  gpu_targets.view<const float, 2>(), scale);
    expect_near(gpu_losses, losses, 1e-5, 0);
    expect_near(gpu_dlogits, dlogits, 1e-5);
  }
}

/// One step of AdamW on a device; squared: Σ grad², or what a bad step has in its place.
struct Step {
  Tensor value, first, second, shadow;
};

Step adamw_step(Context& ctx, const std::array<Tensor, 5>& host, bool has_shadow) {
  std::array<Tensor, 5> at;
  for (size_t i = 0; i < host.size(); ++i) {
    at[i] = allocate_tensor(host_allocator(), DType::kF32, host[i].shape());
    std::memcpy(at[i].raw(), host[i].raw(), static_cast<size_t>(host[i].num_bytes()));
    if (ctx.ops.product_dtype == DType::kBF16) at[i] = copy_to_device(ctx, at[i]);
  }
  const Tensor sum = allocate_tensor(ctx.memory, DType::kF32, {1});
  squared_norm(ctx, flat(sum), flat_const(at[1]));
  Step step{at[0], at[2], at[3], {}};
  AdamWParameters parameters{flat(at[0]), flat_const(at[1]), flat(at[2]), flat(at[3]), {}};
  if (has_shadow) {
    step.shadow = allocate_tensor(ctx.memory, DType::kBF16, {1, host[0].num_elements()});
    parameters.shadow = step.shadow;
  }
  AdamWSettings settings;
  settings.weight_decay = 0.05F;
  settings.max_grad_norm = 1.0F;
  settings.schedule = flat_const(at[4]);
  settings.squared_norm = flat_const(sum);
  adamw(ctx, parameters, settings);
  return step;
}

TEST_F(TrainingOpsCuda, AdamWWithClippingAndAShadow) {
  for (const int64_t count : {1, 777, 100000}) {
    SCOPED_TRACE(count);
    Tensor second = rounded({count}, 4);
    for (int64_t i = 0; i < count; ++i) second.data<float>()[i] *= second.data<float>()[i];
    Tensor schedule = filled({3}, 0.1F);  // lr, corrections
    schedule.data<float>()[2] = 0.01F;
    const std::array<Tensor, 5> inputs{rounded({count}, 1), rounded({count}, 2),
                                       rounded({count}, 3), second, schedule};
    const Step expected = adamw_step(cpu(), inputs, false);
    const Step step = adamw_step(gpu(), inputs, true);
    expect_near(step.value, expected.value, 1e-5, 0);
    expect_near(step.first, expected.first, 1e-5, 0);
    expect_near(step.second, expected.second, 1e-5, 0);
    expect_near(step.shadow, expected.value, 1e-5);
  }
}

TEST_F(TrainingOpsCuda, AdamWLeavesAllAsItIsAfterAStepThatIsNotFinite) {
  std::array<Tensor, 5> inputs{rounded({999}, 1), rounded({999}, 2), rounded({999}, 3),
                               filled({999}, 1), filled({3}, 0.5F)};
  inputs[1].data<float>()[500] = std::numeric_limits<float>::infinity();
  const Step step = adamw_step(gpu(), inputs, false);
  expect_near(step.value, inputs[0], 0, 0);
  expect_near(step.first, inputs[2], 0, 0);
  expect_near(step.second, inputs[3], 0, 0);
}

TEST_F(TrainingOpsCuda, MovingAverageIsGuarded) {
  for (const float guard : {1.0F, std::numeric_limits<float>::quiet_NaN()}) {
    SCOPED_TRACE(guard);
    const Tensor average = rounded({1001}, 1);
    const Tensor gpu_average = copy(average);
    const Tensor x = rounded({1001}, 2);
    const Tensor gpu_x = copy(x);
    const Tensor finite = filled({1}, guard);
    const Tensor gpu_finite = copy(finite);
    moving_average(cpu(), flat(average), flat_const(x), 0.9F, flat_const(finite));
    moving_average(gpu(), flat(gpu_average), flat_const(gpu_x), 0.9F, flat_const(gpu_finite));
    expect_near(gpu_average, average, 1e-6, 0);
  }
}

TEST_F(TrainingOpsCuda, SetZero) {
  const Tensor x = copy(filled({1003}, std::numeric_limits<float>::quiet_NaN()));
  set_zero(gpu(), flat(x));
  expect_near(x, filled({1003}, 0), 0, 0);
}

TEST_F(TrainingOpsCuda, ImageInputWithMixupAndCutMix) {
  const Shape shape{3, 17, 13, 3};
  Tensor pixels = allocate_tensor(host_allocator(), DType::kU8, shape);
  for (int64_t i = 0; i < pixels.num_elements(); ++i) {
    pixels.data<uint8_t>()[i] = static_cast<uint8_t>(i * 37 % 256);
  }
  const Tensor gpu_pixels = copy(pixels);
  ImageInput plain;
  plain.mean = {0.485F, 0.456F, 0.406F};
  plain.std = {0.229F, 0.224F, 0.225F};
  ImageInput mixup = plain;
  mixup.mixup_share = 0.3F;
  ImageInput cutmix = plain;
  cutmix.top = 2;
  cutmix.bottom = 9;
  cutmix.left = 5;
  cutmix.right = 13;
  for (const ImageInput& input : {plain, mixup, cutmix}) {
    SCOPED_TRACE(fmt::format("share {} bottom {}", input.mixup_share, input.bottom));
    const Tensor out = filled(shape, 0);
    const Tensor gpu_out = poisoned(shape);
    image_input(cpu(), out, pixels.view<const uint8_t, 4>(), input);
    image_input(gpu(), gpu_out, gpu_pixels.view<const uint8_t, 4>(), input);
    expect_near(gpu_out, out, 1e-6);
  }
}

}  // namespace
}  // namespace comet
