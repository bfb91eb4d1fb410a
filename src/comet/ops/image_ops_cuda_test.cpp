// The operators over images on a GPU (BF16) against the CPU's (FP32) on the same rounded values:
// sizes below a kernel's, channels that fill no vector, the shapes of the stages of InceptionNeXt-T
// and atto; poisoned outputs, gradients that are added to.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>

#include "comet/ops/average_pool/average_pool_backward.h"
#include "comet/ops/gather_patches/gather_patches.h"
#include "comet/ops/gather_patches/scatter_patches.h"
#include "comet/ops/gelu/gelu_backward.h"
#include "comet/ops/inception_mixer/inception_mixer_backward.h"
#include "comet/ops/layer_norm/layer_norm.h"
#include "comet/ops/ops_cuda_fixture.h"

namespace comet {
namespace {

using testing::rounded;

class ImageOpsCuda : public testing::OpsCuda {};

/// Kernels and their gradients, which begin at 1, in one device's memory.
struct Kernels {
  Tensor weight, bias, weight_grad, bias_grad;

  Kernels(int64_t height, int64_t width, int64_t channels, uint64_t seed)
      : weight(rounded({height, width, channels}, seed, 0.3F)),
        bias(rounded({channels}, seed + 1)),
        weight_grad(allocate_tensor(host_allocator(), DType::kF32, {height, width, channels})),
        bias_grad(allocate_tensor(host_allocator(), DType::kF32, {channels})) {
    std::fill_n(weight_grad.data<float>(), weight_grad.num_elements(), 1.0F);
    std::fill_n(bias_grad.data<float>(), bias_grad.num_elements(), 1.0F);
  }
  [[nodiscard]] Kernels on(Context& ctx) const {
    Kernels copy = *this;
    for (Tensor* t : {&copy.weight, &copy.bias, &copy.weight_grad, &copy.bias_grad}) {
      *t = copy_to_device(ctx, *t);
    }
    return copy;
  }
  [[nodiscard]] DepthwiseWeights weights() const {
    return {weight.view<const float, 3>(), bias.view<const float, 1>()};
  }
  [[nodiscard]] DepthwiseGrads grads() const {
    return {weight_grad.view<float, 3>(), bias_grad.view<float, 1>()};
  }
};

struct MixerCase {
  Shape images;
  int64_t branch, band;
};

/// Stages of T (with half the images' sides where that changes nothing) of few images and of a band
/// of rows an SM and more, atto, odd ones, two of more tiles than CTAs, one too wide for whole rows
/// in shared memory.
const std::array<MixerCase, 23> kMixerCases{
    {{{267, 7, 7, 768}, 96, 11},  {{270, 7, 7, 320}, 40, 9},   {{2, 56, 56, 96}, 12, 11},
     {{17, 56, 56, 96}, 12, 11},  {{34, 28, 28, 192}, 24, 11}, {{67, 14, 14, 384}, 48, 11},
     {{134, 7, 7, 768}, 96, 11},  {{51, 20, 20, 96}, 12, 11},  {{410, 5, 5, 96}, 12, 11},
     {{140, 8, 6, 40}, 10, 9},    {{1, 9, 130, 96}, 12, 11},   {{3, 28, 28, 192}, 24, 11},
     {{2, 14, 14, 384}, 48, 11},  {{5, 7, 7, 768}, 96, 11},    {{2, 16, 12, 40}, 10, 9},
     {{2, 9, 8, 320}, 80, 9},     {{1, 3, 4, 128}, 16, 11},    {{3, 1, 1, 96}, 12, 11},
     {{1, 8, 15, 9}, 3, 5},       {{2, 13, 6, 10}, 3, 11},     {{1, 5, 5, 12}, 4, 3},
     {{1, 7, 30, 1024}, 300, 11}, {{1, 6, 6, 6}, 2, 9}}};

class MixerCuda : public ImageOpsCuda, public ::testing::WithParamInterface<MixerCase> {};

TEST_P(MixerCuda, OutputsAndGradients) {
  const MixerCase& c = GetParam();
  const Tensor x = rounded(c.images, 1);
  const Tensor dy = rounded(c.images, 2);
  const std::array<Kernels, 3> host{Kernels(3, 3, c.branch, 3), Kernels(1, c.band, c.branch, 5),
                                    Kernels(c.band, 1, c.branch, 7)};
  const std::array<Kernels, 3> device{host[0].on(gpu()), host[1].on(gpu()), host[2].on(gpu())};
  const auto weights = [](const std::array<Kernels, 3>& k) {
    return InceptionWeights{k[0].weights(), k[1].weights(), k[2].weights()};
  };
  const auto grads = [](const std::array<Kernels, 3>& k) {
    return InceptionGrads{k[0].grads(), k[1].grads(), k[2].grads()};
  };
  const Tensor gpu_x = on_gpu(x);
  const Tensor gpu_dy = on_gpu(dy);
  const Tensor out = allocate_tensor(host_allocator(), DType::kF32, c.images);
  const Tensor gpu_out = poisoned(c.images);
  inception_mixer(cpu(), out, x, weights(host));
  inception_mixer(gpu(), gpu_out, gpu_x, weights(device));
  expect_near(gpu_out, out, 1e-6);
  const Tensor shortcut = rounded(c.images, 9);
  std::memcpy(out.raw(), shortcut.raw(), static_cast<size_t>(out.num_bytes()));
  const Tensor gpu_dx = on_gpu(shortcut);
  inception_mixer_backward(cpu(), out, grads(host), dy, x, weights(host));
  inception_mixer_backward(gpu(), gpu_dx, grads(device), gpu_dy, gpu_x, weights(device));
  expect_near(gpu_dx, out, 1e-6);
  for (size_t i = 0; i < host.size(); ++i) {
    SCOPED_TRACE(i);
    expect_near(device[i].weight_grad, host[i].weight_grad, 2e-5, 0);
    expect_near(device[i].bias_grad, host[i].bias_grad, 2e-5, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, MixerCuda, ::testing::ValuesIn(kMixerCases),
                         [](const ::testing::TestParamInfo<MixerCase>& shapes) {
                           const MixerCase& c = shapes.param;
                           return fmt::format("{}x{}x{}x{}Band{}", c.images[0], c.images[1],
                                              c.images[2], c.images[3], c.band);
                         });

/// Few bands of rows, several for each SM, and one; launches right behind one another.
TEST_F(ImageOpsCuda, MixerGradientsAreTheSameBitsEachTime) {
  for (const Shape& shape : {Shape{9, 28, 28, 192}, Shape{70, 28, 28, 192}, Shape{40, 56, 56, 96},
                             Shape{128, 7, 7, 768}}) {
    SCOPED_TRACE(shape.to_string());
    const int64_t branch = shape[3] / 8;
    const Tensor x = on_gpu(rounded(shape, 1));
    const Tensor dy = on_gpu(rounded(shape, 2));
    std::array<std::array<Tensor, 2>, 6> results;
    for (auto& [dx, grad] : results) {
      const std::array<Kernels, 3> k{Kernels(3, 3, branch, 3).on(gpu()),
                                     Kernels(1, 11, branch, 5).on(gpu()),
                                     Kernels(11, 1, branch, 7).on(gpu())};
      dx = on_gpu(rounded(shape, 3));
      for (int i = 0; i < 3; ++i) {
        inception_mixer_backward(gpu(), dx, {k[0].grads(), k[1].grads(), k[2].grads()}, dy, x,
                                 {k[0].weights(), k[1].weights(), k[2].weights()});
      }
      dx = copy_to_host(gpu(), dx);
      grad = copy_to_host(gpu(), k[1].weight_grad);
    }
    for (const auto& result : results) {
      for (size_t i = 0; i < result.size(); ++i) {
        EXPECT_EQ(std::memcmp(result[i].raw(), results[0][i].raw(),
                              static_cast<size_t>(result[i].num_bytes())),
                  0)
            << i;
      }
    }
  }
}

TEST_F(ImageOpsCuda, DepthwiseConvAndItsGradients) {
  struct Case {
    Shape images;
    int64_t height, width;
  };
  for (const Case& c :
       {Case{{2, 56, 56, 96}, 7, 7}, Case{{3, 7, 7, 768}, 7, 7}, Case{{2, 5, 3, 130}, 7, 7},
        Case{{1, 15, 22, 2}, 7, 7}, Case{{2, 28, 28, 192}, 7, 7}, Case{{2, 14, 14, 384}, 7, 7},
        Case{{1, 33, 70, 40}, 7, 7}, Case{{2, 16, 16, 96}, 3, 3}, Case{{3, 4, 4, 200}, 3, 3},
        Case{{2, 9, 9, 7}, 7, 7}, Case{{2, 9, 8, 12}, 3, 5}, Case{{1, 1, 1, 64}, 7, 7}}) {
    SCOPED_TRACE(fmt::format("{} kernel {} x {}", c.images.to_string(), c.height, c.width));
    const Tensor x = rounded(c.images, 1);
    const Tensor dy = rounded(c.images, 2);
    const Kernels host(c.height, c.width, c.images[3], 3);
    const Kernels device = host.on(gpu());
    const Tensor gpu_x = on_gpu(x);
    const Tensor gpu_dy = on_gpu(dy);
    const Tensor out = allocate_tensor(host_allocator(), DType::kF32, c.images);
    const Tensor gpu_out = poisoned(c.images);
    depthwise_conv(cpu(), out, x, host.weights());
    depthwise_conv(gpu(), gpu_out, gpu_x, device.weights());
    expect_near(gpu_out, out, 1e-6);
    const Tensor shortcut = rounded(c.images, 9);
    std::memcpy(out.raw(), shortcut.raw(), static_cast<size_t>(out.num_bytes()));
    const Tensor gpu_dx = on_gpu(shortcut);
    depthwise_conv_backward(cpu(), out, host.grads(), dy, x, host.weights());
    depthwise_conv_backward(gpu(), gpu_dx, device.grads(), gpu_dy, gpu_x, device.weights());
    expect_near(gpu_dx, out, 1e-6);
    expect_near(device.weight_grad, host.weight_grad, 2e-5, 0);
    expect_near(device.bias_grad, host.bias_grad, 2e-5, 0);
  }
}

TEST_F(ImageOpsCuda, GeluIsWithinItsBoundForEveryFiniteBf16) {
  constexpr int64_t kCount = 65536;
  Tensor bits = allocate_tensor(host_allocator(), DType::kBF16, {1, kCount});
  for (int64_t i = 0; i < kCount; ++i) {
    bits.data<BFloat16>()[i] = BFloat16{static_cast<uint16_t>(i)};
  }
  const Tensor x = copy_to_device(gpu(), bits);
  const Tensor out = allocate_tensor(gpu().memory, DType::kF32, {1, kCount});
  gelu(gpu(), out, x);
  const Tensor slope = allocate_tensor(gpu().memory, DType::kF32, {1, kCount});
  Tensor ones = allocate_tensor(host_allocator(), DType::kF32, {1, kCount});
  std::fill_n(ones.data<float>(), kCount, 1.0F);
  gelu_backward(gpu(), slope, copy_to_device(gpu(), ones), x);
  const Tensor values = copy_to_host(gpu(), out);
  const Tensor slopes = copy_to_host(gpu(), slope);
  for (int64_t i = 0; i < kCount; ++i) {
    const double v = to_float(bits.data<BFloat16>()[i]);
    if (!std::isfinite(v)) continue;
    const double cdf = 0.5 * std::erfc(-v * M_SQRT1_2);
    const double density = std::exp(-0.5 * v * v) / std::sqrt(2 * M_PI);
    ASSERT_NEAR(values.data<float>()[i], v * cdf, 3.5e-5) << v;
    ASSERT_NEAR(slopes.data<float>()[i], std::abs(v) < 100 ? cdf + v * density : cdf, 6.5e-5) << v;
  }
}

TEST_F(ImageOpsCuda, GeluTakesRowsOfAnySize) {
  for (const Shape& shape : {Shape{3, 7}, Shape{64, 384}, Shape{1, 1}, Shape{17, 40}}) {
    SCOPED_TRACE(shape.to_string());
    const Tensor x = rounded(shape, 1, 2.0F);
    const Tensor dy = rounded(shape, 2);
    const Tensor out = allocate_tensor(host_allocator(), DType::kF32, shape);
    const Tensor gpu_out = poisoned(shape);
    gelu(cpu(), out, x);
    gelu(gpu(), gpu_out, on_gpu(x));
    expect_near(gpu_out, out, 2e-5);
    gelu_backward(cpu(), out, dy, x);
    gelu_backward(gpu(), gpu_out, on_gpu(dy), on_gpu(x));
    expect_near(gpu_out, out, 6.5e-5);
  }
}

TEST_F(ImageOpsCuda, LayerNorm) {
  for (const Shape& shape :
       {Shape{9, 96}, Shape{5, 768}, Shape{3, 13}, Shape{2, 2304}, Shape{130, 192}, Shape{35, 384},
        Shape{67, 40}, Shape{300, 1024}, Shape{2, 5001}}) {
    SCOPED_TRACE(shape.to_string());
    Tensor x = rounded(shape, 1);
    for (int64_t i = 0; i < x.num_elements(); ++i) x.data<float>()[i] += 4.0F;
    for (int64_t i = 0; i < x.num_elements(); ++i) {
      x.data<float>()[i] = to_float(to_bfloat16(x.data<float>()[i]));
    }
    const Tensor weight = rounded({shape[1]}, 2);
    const Tensor bias = rounded({shape[1]}, 3);
    const Tensor out = allocate_tensor(host_allocator(), DType::kF32, shape);
    const Tensor gpu_out = poisoned(shape);
    const Tensor gpu_weight = weights_on_gpu(weight);
    const Tensor gpu_bias = weights_on_gpu(bias);
    layer_norm(cpu(), out, x, {weight.view<const float, 1>(), bias.view<const float, 1>(), 1e-6F});
    layer_norm(gpu(), gpu_out, on_gpu(x),
               {gpu_weight.view<const float, 1>(), gpu_bias.view<const float, 1>(), 1e-6F});
    expect_near(gpu_out, out, 1e-5);
  }
}

TEST_F(ImageOpsCuda, PatchesAndBack) {
  struct Case {
    Shape images;
    int64_t size;
  };
  for (const Case& c : {Case{{2, 32, 40, 3}, 4}, Case{{2, 14, 14, 96}, 2}, Case{{1, 35, 33, 3}, 4},
                        Case{{1, 7, 5, 9}, 2}, Case{{3, 9, 9, 64}, 2}}) {
    SCOPED_TRACE(fmt::format("{} patches of {}", c.images.to_string(), c.size));
    const Tensor x = rounded(c.images, 1);
    const Shape patches{c.images[0] * (c.images[1] / c.size) * (c.images[2] / c.size),
                        c.size * c.size * c.images[3]};
    const Tensor out = allocate_tensor(host_allocator(), DType::kF32, patches);
    const Tensor gpu_out = poisoned(patches);
    gather_patches(cpu(), out, x, c.size);
    gather_patches(gpu(), gpu_out, on_gpu(x), c.size);
    expect_near(gpu_out, out, 0, 0);
    gather_patches(gpu(), gpu_out, copy_to_device(gpu(), x), c.size);  // from FP32
    expect_near(gpu_out, out, 0, 0);
    const Tensor dx = allocate_tensor(host_allocator(), DType::kF32, c.images);
    const Tensor gpu_dx = poisoned(c.images);
    scatter_patches(cpu(), dx, out, c.size);
    scatter_patches(gpu(), gpu_dx, gpu_out, c.size);
    expect_near(gpu_dx, dx, 0, 0);
  }
}

TEST_F(ImageOpsCuda, AveragePoolAndItsGradient) {
  for (const Shape& shape : {Shape{3, 7, 7, 768}, Shape{2, 1, 1, 9}, Shape{1, 12, 5, 321}}) {
    SCOPED_TRACE(shape.to_string());
    const Tensor x = rounded(shape, 1);
    const Tensor out = allocate_tensor(host_allocator(), DType::kF32, {shape[0], shape[3]});
    const Tensor gpu_out = poisoned(out.shape());
    average_pool(cpu(), out, x);
    average_pool(gpu(), gpu_out, on_gpu(x));
    expect_near(gpu_out, out, 1e-6);
    const Tensor dy = rounded(out.shape(), 2);
    const Tensor dx = allocate_tensor(host_allocator(), DType::kF32, shape);
    const Tensor gpu_dx = poisoned(shape);
    average_pool_backward(cpu(), dx, dy);
    average_pool_backward(gpu(), gpu_dx, on_gpu(dy));
    expect_near(gpu_dx, dx, 1e-6);
  }
}

}  // namespace
}  // namespace comet
