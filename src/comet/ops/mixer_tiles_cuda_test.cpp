// The mixer's kernels for launches of many tiles or images against those for few: the same images,
// so the same bits. Those for few are tested in image_ops_cuda_test.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "comet/ops/inception_mixer/inception_mixer_backward.h"
#include "comet/ops/ops_cuda_fixture.h"

namespace comet {
namespace {

using testing::rounded;

struct Kernel {
  Tensor weight, bias, weight_grad, bias_grad;

  [[nodiscard]] DepthwiseWeights weights() const {
    return {weight.view<const float, 3>(), bias.view<const float, 1>()};
  }
  [[nodiscard]] DepthwiseGrads grads() const {
    return {weight_grad.view<float, 3>(), bias_grad.view<float, 1>()};
  }
};

class ManyTilesCuda : public testing::OpsCuda {
 protected:
  Kernel kernel_of(const Shape& shape, uint64_t seed) {
    const Shape channels{shape[2]};
    return {weights_on_gpu(rounded(shape, seed, 0.3F)), weights_on_gpu(rounded(channels, seed + 1)),
            weights_on_gpu(rounded(shape, seed, 0.0F)),
            weights_on_gpu(rounded(channels, seed, 0.0F))};
  }
};

/// Images of a launch of few tiles, repeated so that other kernels take them.
struct Repeated {
  Shape images;
  int64_t repeats;
  int64_t band;
};

/// Sums over `repeats` times the same images are so many times as large but for rounding.
void expect_multiple(const Tensor& many, const Tensor& few, int64_t repeats) {
  float most = 0.0F;
  for (int64_t i = 0; i < few.num_elements(); ++i) {
    most = std::max(most, std::abs(few.data<float>()[i]));
  }
  const auto times = static_cast<float>(repeats);
  for (int64_t i = 0; i < few.num_elements(); ++i) {
    ASSERT_NEAR(many.data<float>()[i], times * few.data<float>()[i], 1e-5F * times * most) << i;
  }
}

TEST_F(ManyTilesCuda, MixerHasTheBitsOfFewTiles) {
  // Forward: whole rows, slices. Gradients: the first two as streams of bands; then as whole
  // images, in one round or two, of 7 columns, of sevens, of others.
  const std::vector<Repeated> cases = {
      {{2, 56, 56, 96}, 18, 11}, {{4, 28, 28, 192}, 18, 11}, {{14, 14, 14, 384}, 18, 11},
      {{2, 56, 56, 96}, 50, 11}, {{5, 7, 7, 768}, 20, 11},   {{5, 7, 7, 768}, 20, 9},
      {{4, 14, 14, 384}, 28, 9}, {{5, 13, 12, 80}, 25, 11},  {{4, 3, 20, 32}, 28, 9},
      {{20, 9, 16, 64}, 13, 11}, {{5, 12, 7, 128}, 20, 11},
  };
  for (const auto& [images, repeats, band] : cases) {
    SCOPED_TRACE(images.to_string() + " × " + std::to_string(repeats));
    const int64_t branch = images[3] / 8;
    const auto run = [&](int64_t times) {
      const std::array<Kernel, 3> k{kernel_of({3, 3, branch}, 3), kernel_of({1, band, branch}, 5),
                                    kernel_of({band, 1, branch}, 7)};
      const InceptionWeights weights{k[0].weights(), k[1].weights(), k[2].weights()};
      const Shape shape{images[0] * times, images[1], images[2], images[3]};
      const auto repeated = [&](uint64_t seed) {
        const Tensor part = rounded(images, seed);
        const Tensor all = allocate_tensor(host_allocator(), DType::kF32, shape);
        const auto num_bytes = static_cast<size_t>(part.num_bytes());
        for (int64_t i = 0; i < times; ++i) {
          std::memcpy(static_cast<std::byte*>(all.raw()) + static_cast<size_t>(i) * num_bytes,
                      part.raw(), num_bytes);
        }
        return on_gpu(all);
      };
      const Tensor x = repeated(1);
      const Tensor dx = repeated(9);
      const Tensor out = poisoned(shape);
      inception_mixer(gpu(), out, x, weights);
      inception_mixer_backward(gpu(), dx, {k[0].grads(), k[1].grads(), k[2].grads()}, repeated(2),
                               x, weights);
      std::vector<Tensor> results{copy_to_host(gpu(), out), copy_to_host(gpu(), dx)};
      for (const Kernel& kernel : k) {
        results.push_back(copy_to_host(gpu(), kernel.weight_grad));
        results.push_back(copy_to_host(gpu(), kernel.bias_grad));
      }
      return results;
    };
    const std::vector<Tensor> few = run(1);
    const std::vector<Tensor> many = run(repeats);
    for (size_t i = 0; i < 2; ++i) {
      const auto num_bytes = static_cast<size_t>(few[i].num_bytes());
      for (size_t repeat = 0; repeat < static_cast<size_t>(repeats); ++repeat) {
        const auto* at = static_cast<const std::byte*>(many[i].raw()) + repeat * num_bytes;
        ASSERT_EQ(std::memcmp(at, few[i].raw(), num_bytes), 0) << i << " repeat " << repeat;
      }
    }
    for (size_t i = 2; i < few.size(); ++i) expect_multiple(many[i], few[i], repeats);
  }
}

}  // namespace
}  // namespace comet
