// The mixer's kernel for launches of many tiles (256 and more: whole rows in shared memory) against
// the one for few: the same images, so the same bits. The one for few is tested in
// image_ops_cuda_test.cpp.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstring>

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
            weights_on_gpu(rounded(shape, seed)), weights_on_gpu(rounded(channels, seed))};
  }
};

TEST_F(ManyTilesCuda, MixerHasTheBitsOfFewTiles) {
  constexpr int64_t kRepeats = 18;
  constexpr int64_t kBand = 11;
  for (const Shape& images :
       {Shape{2, 56, 56, 96}, Shape{4, 28, 28, 192}, Shape{14, 14, 14, 384}}) {
    SCOPED_TRACE(images.to_string());
    const int64_t branch = images[3] / 8;
    const std::array<Kernel, 3> k{kernel_of({3, 3, branch}, 3), kernel_of({1, kBand, branch}, 5),
                                  kernel_of({kBand, 1, branch}, 7)};
    const InceptionWeights weights{k[0].weights(), k[1].weights(), k[2].weights()};
    const auto run = [&](int64_t repeats) {
      const Shape shape{images[0] * repeats, images[1], images[2], images[3]};
      const auto repeated = [&](uint64_t seed) {
        const Tensor part = rounded(images, seed);
        const Tensor all = allocate_tensor(host_allocator(), DType::kF32, shape);
        const auto num_bytes = static_cast<size_t>(part.num_bytes());
        for (int64_t i = 0; i < repeats; ++i) {
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
      return std::array<Tensor, 2>{copy_to_host(gpu(), out), copy_to_host(gpu(), dx)};
    };
    const std::array<Tensor, 2> few = run(1);
    const std::array<Tensor, 2> many = run(kRepeats);
    for (size_t i = 0; i < few.size(); ++i) {
      const auto num_bytes = static_cast<size_t>(few[i].num_bytes());
      for (size_t repeat = 0; repeat < kRepeats; ++repeat) {
        const auto* at = static_cast<const std::byte*>(many[i].raw()) + repeat * num_bytes;
        EXPECT_EQ(std::memcmp(at, few[i].raw(), num_bytes), 0) << i << " repeat " << repeat;
      }
    }
  }
}

}  // namespace
}  // namespace comet
