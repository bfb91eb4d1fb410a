// The operators of training: gradients against finite differences of the forward operator, products
// against their definitions in double, and the same bits with 1 and 2 threads.
#include "comet/ops/training_ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "comet/base/rng.h"
#include "comet/ops/average_pool/average_pool_backward.h"
#include "comet/ops/batch_norm/batch_norm.h"
#include "comet/ops/cross_entropy/cross_entropy.h"
#include "comet/ops/gather_patches/gather_patches.h"
#include "comet/ops/gather_patches/scatter_patches.h"
#include "comet/ops/gelu/gelu_backward.h"
#include "comet/ops/image_input/image_input.h"
#include "comet/ops/inception_mixer/inception_mixer_backward.h"
#include "comet/ops/layer_scale/layer_scale.h"
#include "comet/ops/product/product.h"

namespace comet {
namespace {

using Values = std::vector<float>;

Values random_values(int64_t count, uint64_t seed, float offset = 0.0F) {
  Values values(static_cast<size_t>(count));
  Rng rng(seed);
  for (float& value : values) value = offset + rng.next_normal();
  return values;
}

double dot(const Values& a, const Values& b) {
  COMET_CHECK(a.size() == b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * double{b[i]};
  return sum;
}

/// An operator with inputs of these sizes; gradients start as what they are added to.
struct Differentiable {
  std::vector<Values> inputs;
  int64_t output_size;
  std::function<void(Context&, const std::vector<Values>& inputs, Values& out)> forward;
  std::function<void(Context&, const std::vector<Values>& inputs, const Values& dy,
                     std::vector<Values>& grads)>
      backward;
};

std::vector<Values> gradients(Context& ctx, const Differentiable& op, const Values& dy) {
  std::vector<Values> grads;
  for (const Values& input : op.inputs) grads.emplace_back(input.size(), 0.5F);
  op.backward(ctx, op.inputs, dy, grads);
  return grads;
}

/// Of Σ dy · op(inputs) along `direction` of one input.
double slope(Context& ctx, const Differentiable& op, const Values& dy, size_t input_idx,
             const Values& direction) {
  const float step = 1.0F / 128;
  std::array<double, 2> sums{};
  for (const int side : {0, 1}) {
    std::vector<Values> inputs = op.inputs;
    for (size_t i = 0; i < direction.size(); ++i) {
      inputs[input_idx][i] += (side == 0 ? step : -step) * direction[i];
    }
    Values out(static_cast<size_t>(op.output_size));
    op.forward(ctx, inputs, out);
    sums[static_cast<size_t>(side)] = dot(out, dy);
  }
  return (sums[0] - sums[1]) / (2.0 * double{step});
}

/// `written`: inputs whose gradient is written; those of the others are added to.
void check_gradients(const Differentiable& op, const std::vector<size_t>& written) {
  const Values dy = random_values(op.output_size, 77);
  for (const CpuIsa isa : available_cpu_isas()) {
    const auto one = Runtime::cpu(isa, 1);
    const auto two = Runtime::cpu(isa, 2);
    std::vector<Values> grads = gradients(one->context(), op, dy);
    ASSERT_EQ(grads, gradients(two->context(), op, dy)) << cpu_isa_name(isa);
    for (size_t i = 0; i < grads.size(); ++i) {
      const bool is_written = std::find(written.begin(), written.end(), i) != written.end();
      if (!is_written) {
        for (float& grad : grads[i]) grad -= 0.5F;
      }
      const double size = std::sqrt(dot(grads[i], grads[i]));
      ASSERT_GT(size, 0.0);
      for (uint64_t trial = 0; trial < 8; ++trial) {
        Values direction = random_values(static_cast<int64_t>(grads[i].size()), 100 + trial);
        if (trial >= 4) {  // one coordinate
          const size_t at = (trial * 7919) % direction.size();
          std::fill(direction.begin(), direction.end(), 0.0F);
          direction[at] = 1.0F;
        }
        const double expected = slope(one->context(), op, dy, i, direction);
        ASSERT_NEAR(dot(grads[i], direction), expected, 4e-3 * std::max(1.0, size))
            << cpu_isa_name(isa) << ", input " << i << ", trial " << trial;
      }
    }
  }
}

View<float, 4> images(Values& values, std::array<int64_t, 4> sizes) {
  return {values.data(), sizes};
}
View<const float, 4> images(const Values& values, std::array<int64_t, 4> sizes) {
  return {values.data(), sizes};
}
View<float, 2> rows(Values& values, int64_t n) {
  return {values.data(), {static_cast<int64_t>(values.size()) / n, n}};
}
View<const float, 2> rows(const Values& values, int64_t n) {
  return {values.data(), {static_cast<int64_t>(values.size()) / n, n}};
}
View<float, 1> flat(Values& values) {
  return {values.data(), {static_cast<int64_t>(values.size())}};
}
View<const float, 1> flat(const Values& values) {
  return {values.data(), {static_cast<int64_t>(values.size())}};
}

DepthwiseWeights kernels(const Values& weight, const Values& bias, int64_t height, int64_t width) {
  const auto channels = static_cast<int64_t>(bias.size());
  return {{weight.data(), {height, width, channels}}, flat(bias)};
}
DepthwiseGrads kernel_grads(Values& weight, Values& bias, int64_t height, int64_t width) {
  const auto channels = static_cast<int64_t>(bias.size());
  return {{weight.data(), {height, width, channels}}, flat(bias)};
}

TEST(TrainingOps, DepthwiseConvBackward) {
  for (const int64_t channels : {5, 48}) {
    const std::array<int64_t, 4> sizes{2, 6, 9, channels};
    const int64_t num = 2 * 6 * 9 * channels;
    Differentiable op;
    op.inputs = {random_values(num, 1), random_values(49 * channels, 2),
                 random_values(channels, 3)};
    op.output_size = num;
    op.forward = [=](Context& ctx, const std::vector<Values>& in, Values& out) {
      depthwise_conv(ctx, images(out, sizes), images(in[0], sizes), kernels(in[1], in[2], 7, 7));
    };
    op.backward = [=](Context& ctx, const std::vector<Values>& in, const Values& dy,
                      std::vector<Values>& grads) {
      depthwise_conv_backward(ctx, images(grads[0], sizes), kernel_grads(grads[1], grads[2], 7, 7),
                              images(dy, sizes), images(in[0], sizes), kernels(in[1], in[2], 7, 7));
    };
    check_gradients(op, {});
  }
}

TEST(TrainingOps, InceptionMixerBackward) {
  for (const int64_t branch : {3, 20}) {
    const int64_t channels = 3 * branch + 7;
    const std::array<int64_t, 4> sizes{2, 13, 5, channels};
    const int64_t num = 2 * 13 * 5 * channels;
    Differentiable op;
    op.inputs = {random_values(num, 1),    random_values(9 * branch, 2),
                 random_values(branch, 3), random_values(11 * branch, 4),
                 random_values(branch, 5), random_values(11 * branch, 6),
                 random_values(branch, 7)};
    op.output_size = num;
    const auto weights = [](const std::vector<Values>& in) {
      return InceptionWeights{kernels(in[1], in[2], 3, 3), kernels(in[3], in[4], 1, 11),
                              kernels(in[5], in[6], 11, 1)};
    };
    op.forward = [=](Context& ctx, const std::vector<Values>& in, Values& out) {
      inception_mixer(ctx, images(out, sizes), images(in[0], sizes), weights(in));
    };
    op.backward = [=](Context& ctx, const std::vector<Values>& in, const Values& dy,
                      std::vector<Values>& grads) {
      inception_mixer_backward(
          ctx, images(grads[0], sizes),
          {kernel_grads(grads[1], grads[2], 3, 3), kernel_grads(grads[3], grads[4], 1, 11),
           kernel_grads(grads[5], grads[6], 11, 1)},
          images(dy, sizes), images(in[0], sizes), weights(in));
    };
    check_gradients(op, {});
  }
}

TEST(TrainingOps, ScatterPatches) {
  const std::array<int64_t, 4> sizes{2, 9, 11, 3};
  Differentiable op;
  op.inputs = {random_values(2 * 9 * 11 * 3, 1)};
  op.output_size = 2 * 2 * 2 * 4 * 4 * 3;
  op.forward = [=](Context& ctx, const std::vector<Values>& in, Values& out) {
    gather_patches(ctx, rows(out, 48), images(in[0], sizes), 4);
  };
  op.backward = [=](Context& ctx, const std::vector<Values>&, const Values& dy,
                    std::vector<Values>& grads) {
    scatter_patches(ctx, images(grads[0], sizes), rows(dy, 48), 4);
  };
  check_gradients(op, {0});
}

TEST(TrainingOps, BatchNormBackward) {
  constexpr int64_t kChannels = 7;
  Differentiable op;
  op.inputs = {random_values(50 * kChannels, 1, 3.0F), random_values(kChannels, 2, 1.0F),
               random_values(kChannels, 3)};
  op.output_size = 50 * kChannels;
  const auto moments_of = [](Context& ctx, const Values& x, Values& mean, Values& inv_std) {
    Values running(kChannels, 1.0F);
    Values variance(kChannels, 1.0F);
    batch_moments(ctx, {flat(mean), flat(inv_std)}, {flat(running), flat(variance), 0.1F},
                  rows(x, kChannels), 1e-5F);
  };
  op.forward = [=](Context& ctx, const std::vector<Values>& in, Values& out) {
    Values mean(kChannels);
    Values inv_std(kChannels);
    moments_of(ctx, in[0], mean, inv_std);
    batch_norm(ctx, rows(out, kChannels), rows(in[0], kChannels), {flat(mean), flat(inv_std)},
               {flat(in[1]), flat(in[2]), 1e-5F});
  };
  op.backward = [=](Context& ctx, const std::vector<Values>& in, const Values& dy,
                    std::vector<Values>& grads) {
    Values mean(kChannels);
    Values inv_std(kChannels);
    moments_of(ctx, in[0], mean, inv_std);
    batch_norm_backward(ctx, rows(grads[0], kChannels), {flat(grads[1]), flat(grads[2])},
                        rows(dy, kChannels), rows(in[0], kChannels), {flat(mean), flat(inv_std)},
                        {flat(in[1]), flat(in[2]), 1e-5F});
  };
  check_gradients(op, {0});
}

TEST(TrainingOps, BatchMomentsAreThoseOfTheBatch) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  constexpr int64_t kChannels = 3;
  constexpr int64_t kRows = 1000;
  const Values x = random_values(kRows * kChannels, 5, 1000.0F);  // a mean far above the spread
  Values mean(kChannels);
  Values inv_std(kChannels);
  Values running_mean(kChannels, 2.0F);
  Values running_variance(kChannels, 3.0F);
  batch_moments(runtime->context(), {flat(mean), flat(inv_std)},
                {flat(running_mean), flat(running_variance), 0.1F}, rows(x, kChannels), 1e-5F);
  for (size_t c = 0; c < kChannels; ++c) {
    double sum = 0;
    for (size_t i = c; i < x.size(); i += kChannels) sum += x[i];
    const double exact = sum / kRows;
    double squares = 0;
    for (size_t i = c; i < x.size(); i += kChannels) squares += (x[i] - exact) * (x[i] - exact);
    EXPECT_NEAR(mean[c], exact, 1e-4);
    EXPECT_NEAR(inv_std[c], 1 / std::sqrt(squares / kRows + 1e-5), 1e-6);
    EXPECT_NEAR(running_mean[c], 0.9 * 2 + 0.1 * exact, 1e-4);
    EXPECT_NEAR(running_variance[c], 0.9 * 3 + 0.1 * squares / (kRows - 1), 1e-6);
  }
}

TEST(TrainingOps, LayerNormBackward) {
  constexpr int64_t kSize = 37;
  Differentiable op;
  op.inputs = {random_values(40 * kSize, 1, 3.0F), random_values(kSize, 2, 1.0F),
               random_values(kSize, 3)};
  op.output_size = 40 * kSize;
  op.forward = [](Context& ctx, const std::vector<Values>& in, Values& out) {
    layer_norm(ctx, rows(out, kSize), rows(in[0], kSize), {flat(in[1]), flat(in[2]), 1e-6F});
  };
  op.backward = [](Context& ctx, const std::vector<Values>& in, const Values& dy,
                   std::vector<Values>& grads) {
    layer_norm_backward(ctx, rows(grads[0], kSize), {flat(grads[1]), flat(grads[2])},
                        rows(dy, kSize), rows(in[0], kSize), {flat(in[1]), flat(in[2]), 1e-6F});
  };
  check_gradients(op, {0});
}

TEST(TrainingOps, GeluBackwardIsTheDerivative) {
  Values x;
  for (int i = -12000; i <= 12000; ++i) x.push_back(static_cast<float>(i) * 1e-3F);
  const Values ones(x.size(), 1.0F);
  for (const CpuIsa isa : available_cpu_isas()) {
    const auto runtime = Runtime::cpu(isa, 2);
    Values dx(x.size());
    const auto n = static_cast<int64_t>(x.size());
    gelu_backward(runtime->context(), rows(dx, n), rows(ones, n), rows(x, n));
    for (size_t i = 0; i < x.size(); ++i) {
      const double at = x[i];
      const double exact =
          0.5 * std::erfc(-at / std::sqrt(2.0)) + at * std::exp(-at * at / 2) / std::sqrt(2 * M_PI);
      ASSERT_NEAR(dx[i], exact, 1e-6) << cpu_isa_name(isa) << ' ' << at;
    }
  }
}

TEST(TrainingOps, LayerScaleBackward) {
  constexpr int64_t kSize = 6;
  const Values keep{1.25F, 0.0F, 1.25F};
  Differentiable op;  // x, branch, gamma
  op.inputs = {random_values(3 * 10 * kSize, 1), random_values(3 * 10 * kSize, 2),
               random_values(kSize, 3)};
  op.output_size = 3 * 10 * kSize;
  op.forward = [=](Context& ctx, const std::vector<Values>& in, Values& out) {
    layer_scale(ctx, rows(out, kSize), rows(in[0], kSize), rows(in[1], kSize),
                {flat(in[2]), flat(keep)});
  };
  op.backward = [=](Context& ctx, const std::vector<Values>& in, const Values& dy,
                    std::vector<Values>& grads) {
    grads[0] = dy;
    layer_scale_backward(ctx, rows(grads[1], kSize), flat(grads[2]), rows(dy, kSize),
                         rows(in[1], kSize), {flat(in[2]), flat(keep)});
  };
  check_gradients(op, {0, 1});
}

TEST(TrainingOps, AveragePoolBackward) {
  const std::array<int64_t, 4> sizes{3, 4, 5, 6};
  Differentiable op;
  op.inputs = {random_values(3 * 4 * 5 * 6, 1)};
  op.output_size = 3 * 6;
  op.forward = [=](Context& ctx, const std::vector<Values>& in, Values& out) {
    average_pool(ctx, rows(out, 6), images(in[0], sizes));
  };
  op.backward = [=](Context& ctx, const std::vector<Values>&, const Values& dy,
                    std::vector<Values>& grads) {
    average_pool_backward(ctx, images(grads[0], sizes), rows(dy, 6));
  };
  check_gradients(op, {0});
}

TEST(TrainingOps, CrossEntropyOfSoftTargets) {
  constexpr int64_t kClasses = 9;
  Values targets = random_values(4 * kClasses, 8);
  for (float& target : targets) target = std::abs(target);  // they need not sum to 1
  Differentiable op;
  op.inputs = {random_values(4 * kClasses, 1)};
  op.output_size = 4;
  op.forward = [=](Context& ctx, const std::vector<Values>& in, Values& out) {
    Values dlogits(in[0].size());
    cross_entropy(ctx, flat(out), rows(dlogits, kClasses), rows(in[0], kClasses),
                  rows(targets, kClasses), 1.0F);
  };
  op.backward = [=](Context& ctx, const std::vector<Values>& in, const Values& dy,
                    std::vector<Values>& grads) {
    Values losses(4);
    cross_entropy(ctx, flat(losses), rows(grads[0], kClasses), rows(in[0], kClasses),
                  rows(targets, kClasses), 3.0F);
    for (size_t i = 0; i < grads[0].size(); ++i) grads[0][i] *= dy[i / kClasses] / 3.0F;
  };
  check_gradients(op, {0});

  const auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  const Values logits{1000.0F, 0.0F, -1000.0F};  // exp overflows unless the largest is taken out
  const Values one_hot{0.0F, 1.0F, 0.0F};
  Values loss(1);
  Values dlogits(3);
  cross_entropy(runtime->context(), flat(loss), rows(dlogits, 3), rows(logits, 3), rows(one_hot, 3),
                1.0F);
  EXPECT_EQ(loss[0], 1000.0F);
  EXPECT_EQ(dlogits, (Values{1.0F, -1.0F, 0.0F}));
}

TEST(TrainingOps, ImagesAreNormalizedAndMixed) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  const std::array<int64_t, 4> sizes{3, 4, 5, 3};
  std::vector<uint8_t> pixels(3 * 4 * 5 * 3);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(37 * i % 256);
  ImageInput input;
  input.mean = {0.5F, 0.25F, 0.0F};
  input.std = {0.5F, 0.25F, 1.0F};
  for (const int mode : {0, 1, 2}) {
    if (mode == 1) input.mixup_share = 0.75F;
    if (mode == 2) input = {input.mean, input.std, 1.0F, 1, 3, 2, 5};
    Values out(pixels.size(), NAN);
    image_input(runtime->context(), images(out, sizes), {pixels.data(), sizes}, input);
    for (size_t i = 0; i < out.size(); ++i) {
      const size_t y = i / 15 % 4;
      const size_t x = i / 3 % 5;
      const double own = pixels[i];
      const double other = pixels[(2 - i / 60) * 60 + i % 60];
      const bool in_box = mode == 2 && y >= 1 && y < 3 && x >= 2;
      const double mixed = mode == 1 ? 0.75 * own + 0.25 * other : in_box ? other : own;
      const size_t c = i % 3;
      ASSERT_NEAR(out[i], (mixed / 255 - double{input.mean[c]}) / double{input.std[c]}, 1e-6)
          << mode << ' ' << i;
    }
  }
}

struct ProductCase {
  ProductForm form;
  int64_t m, n, k;
  bool with_bias, add;
};

double exact_product(const ProductCase& c, const Values& a, const Values& b, int64_t i, int64_t j) {
  double sum = 0;
  for (int64_t k = 0; k < c.k; ++k) {
    const int64_t at_a = c.form == ProductForm::kWeight ? k * c.m + i : i * c.k + k;
    const int64_t at_b = c.form == ProductForm::kForward ? j * c.k + k : k * c.n + j;
    sum += double{a[static_cast<size_t>(at_a)]} * double{b[static_cast<size_t>(at_b)]};
  }
  return sum;
}

void check_product(const ProductCase& c) {
  const Values a = random_values(c.m * c.k, 1);
  const Values b = random_values(c.n * c.k, 2);
  const Values bias = random_values(c.n, 3);
  const int64_t a_columns = c.form == ProductForm::kWeight ? c.m : c.k;
  const int64_t b_columns = c.form == ProductForm::kForward ? c.k : c.n;
  for (const CpuIsa isa : available_cpu_isas()) {
    std::vector<Values> results;
    for (const int num_threads : {1, 2}) {
      const auto runtime = Runtime::cpu(isa, num_threads);
      Values out(static_cast<size_t>(c.m * c.n), c.add ? 4.0F : NAN);
      ProductEnd end;
      if (c.with_bias) end.bias = flat(bias);
      end.add_to_out = c.add;
      product(runtime->context(), rows(out, c.n), rows(a, a_columns), rows(b, b_columns), c.form,
              end);
      results.push_back(out);
    }
    ASSERT_EQ(results[0], results[1]);
    for (int64_t i = 0; i < c.m; ++i) {
      for (int64_t j = 0; j < c.n; ++j) {
        const double start =
            (c.add ? 4.0 : 0.0) + (c.with_bias ? double{bias[static_cast<size_t>(j)]} : 0.0);
        ASSERT_NEAR(results[0][static_cast<size_t>(i * c.n + j)],
                    start + exact_product(c, a, b, i, j), 1e-5 * std::sqrt(double(c.k)) * 3)
            << cpu_isa_name(isa) << ' ' << i << ' ' << j;
      }
    }
  }
}

TEST(TrainingOps, ProductsAreTheirDefinitions) {
  for (const ProductForm form : {ProductForm::kForward, ProductForm::kData, ProductForm::kWeight}) {
    check_product({form, 1, 1, 1, false, false});
    check_product({form, 7, 33, 5, true, false});
    check_product({form, 100, 300, 520, true, true});
  }
}

TEST(TrainingOps, ColumnSumsAreAdded) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  const Values x = random_values(100 * 3, 1);
  Values sums(3, 10.0F);
  column_sums(runtime->context(), flat(sums), rows(x, 3));
  for (size_t c = 0; c < 3; ++c) {
    double exact = 10;
    for (size_t i = c; i < x.size(); i += 3) exact += double{x[i]};
    EXPECT_NEAR(sums[c], exact, 1e-5);
  }
}

}  // namespace
}  // namespace comet
