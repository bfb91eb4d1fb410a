// The operators over images against their definitions in double, on every instruction set of the
// machine, with 1 and 2 threads: sizes below a kernel's, channels that fill no vector, batches.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "comet/base/rng.h"
#include "comet/ops/average_pool/average_pool.h"
#include "comet/ops/gather_patches/gather_patches.h"
#include "comet/ops/gelu/gelu.h"
#include "comet/ops/inception_mixer/inception_mixer.h"
#include "comet/ops/layer_norm/layer_norm.h"
#include "comet/ops/op_table.h"

namespace comet {
namespace {

constexpr float kPoison = -777.0F;

std::vector<float> random_values(int64_t count, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(count));
  Rng rng(seed);
  for (float& value : values) value = rng.next_normal();
  return values;
}

/// ImageValues [images, height, width, channels] with values of their own.
struct ImageValues {
  std::array<int64_t, 4> sizes;
  std::vector<float> data;

  ImageValues(std::array<int64_t, 4> shape, uint64_t seed)
      : sizes(shape), data(random_values(shape[0] * shape[1] * shape[2] * shape[3], seed)) {}
  [[nodiscard]] ImageValues poisoned() const {
    ImageValues out = *this;
    std::fill(out.data.begin(), out.data.end(), kPoison);
    return out;
  }
  View<float, 4> view() { return {data.data(), sizes}; }
  /// Zero outside the image.
  [[nodiscard]] double at(int64_t image, int64_t y, int64_t x, int64_t channel) const {
    if (y < 0 || x < 0 || y >= sizes[1] || x >= sizes[2]) return 0;
    const int64_t pixel = (image * sizes[1] + y) * sizes[2] + x;
    return data[static_cast<size_t>(pixel * sizes[3] + channel)];
  }
};

struct Kernels {
  int64_t height, width, channels;
  std::vector<float> weight, bias;

  Kernels(int64_t kernel_h, int64_t kernel_w, int64_t num_channels, uint64_t seed)
      : height(kernel_h),
        width(kernel_w),
        channels(num_channels),
        weight(random_values(kernel_h * kernel_w * num_channels, seed)),
        bias(random_values(num_channels, seed + 1)) {}
  [[nodiscard]] DepthwiseWeights view() const {
    return {{weight.data(), {height, width, channels}}, {bias.data(), {channels}}};
  }
  /// The definition, of channel `first + channel` of x.
  [[nodiscard]] double at(const ImageValues& x, int64_t image, int64_t y, int64_t px, int64_t first,
                          int64_t channel) const {
    double sum = bias[static_cast<size_t>(channel)];
    for (int64_t ky = 0; ky < height; ++ky) {
      for (int64_t kx = 0; kx < width; ++kx) {
        const int64_t tap = (ky * width + kx) * channels + channel;
        sum += double{weight[static_cast<size_t>(tap)]} *
               x.at(image, y + ky - height / 2, px + kx - width / 2, first + channel);
      }
    }
    return sum;
  }
};

template <typename Body>
void for_each_runtime(const Body& body) {
  for (const CpuIsa isa : available_cpu_isas()) {
    for (const int num_threads : {1, 2}) {
      const auto runtime = Runtime::cpu(isa, num_threads);
      SCOPED_TRACE(fmt::format("{} {} threads", cpu_isa_name(isa), num_threads));
      body(runtime->context());
    }
  }
}

/// Calls body(image, y, x, channel) for every place of `images`.
template <typename Body>
void for_each_place(const ImageValues& images, const Body& body) {
  for (int64_t n = 0; n < images.sizes[0]; ++n) {
    for (int64_t y = 0; y < images.sizes[1]; ++y) {
      for (int64_t x = 0; x < images.sizes[2]; ++x) {
        for (int64_t c = 0; c < images.sizes[3]; ++c) body(n, y, x, c);
      }
    }
  }
}

const std::vector<std::array<int64_t, 4>>& image_sizes() {
  static const std::vector<std::array<int64_t, 4>> all{
      {1, 1, 1, 8}, {2, 2, 3, 13}, {1, 16, 9, 40}, {2, 5, 17, 96}, {0, 4, 4, 8}, {1, 1, 30, 31}};
  return all;
}

TEST(ImageOps, DepthwiseConvIsItsDefinition) {
  for_each_runtime([](Context& ctx) {
    for (const auto& sizes : image_sizes()) {
      ImageValues x(sizes, 1);
      ImageValues out = x.poisoned();
      const Kernels kernels(7, 7, sizes[3], 5);
      depthwise_conv(ctx, out.view(), x.view(), kernels.view());
      for_each_place(x, [&](int64_t n, int64_t y, int64_t px, int64_t c) {
        ASSERT_NEAR(out.at(n, y, px, c), kernels.at(x, n, y, px, 0, c), 2e-5)
            << n << ' ' << y << ' ' << px << ' ' << c;
      });
    }
  });
}

TEST(ImageOps, InceptionMixerIsItsDefinition) {
  for_each_runtime([](Context& ctx) {
    for (const auto& sizes : image_sizes()) {
      const int64_t branch = sizes[3] / 4;
      const int64_t kept = sizes[3] - 3 * branch;
      ImageValues x(sizes, 2);
      ImageValues out = x.poisoned();
      const std::array<Kernels, 3> kernels{Kernels(3, 3, branch, 10), Kernels(1, 11, branch, 20),
                                           Kernels(11, 1, branch, 30)};
      inception_mixer(ctx, out.view(), x.view(),
                      {kernels[0].view(), kernels[1].view(), kernels[2].view()});
      for_each_place(x, [&](int64_t n, int64_t y, int64_t px, int64_t c) {
        if (c < kept) {
          ASSERT_EQ(out.at(n, y, px, c), x.at(n, y, px, c));
          return;
        }
        const int64_t part = (c - kept) / branch;
        const int64_t first = kept + part * branch;
        const double expected =
            kernels.at(static_cast<size_t>(part)).at(x, n, y, px, first, c - first);
        ASSERT_NEAR(out.at(n, y, px, c), expected, 1e-5) << n << ' ' << y << ' ' << px << ' ' << c;
      });
    }
  });
}

TEST(ImageOps, NeitherThreadsNorCompanyChangeBits) {
  for (const CpuIsa isa : available_cpu_isas()) {
    const auto one = Runtime::cpu(isa, 1);
    const auto two = Runtime::cpu(isa, 2);
    ImageValues batch({3, 20, 20, 40}, 3);
    ImageValues out_of_one = batch.poisoned();
    ImageValues out_of_two = batch.poisoned();
    const Kernels kernels(7, 7, 40, 5);
    depthwise_conv(one->context(), out_of_one.view(), batch.view(), kernels.view());
    depthwise_conv(two->context(), out_of_two.view(), batch.view(), kernels.view());
    EXPECT_EQ(out_of_one.data, out_of_two.data);
    ImageValues last({1, 20, 20, 40}, 0);
    std::copy(batch.data.end() - 20 * 20 * 40, batch.data.end(), last.data.begin());
    ImageValues out_of_last = last.poisoned();
    depthwise_conv(two->context(), out_of_last.view(), last.view(), kernels.view());
    EXPECT_TRUE(
        std::equal(out_of_last.data.rbegin(), out_of_last.data.rend(), out_of_one.data.rbegin()));
  }
}

TEST(ImageOps, PatchesAreRowsOfPixelsAndLeaveTheRestOut) {
  for_each_runtime([](Context& ctx) {
    ImageValues x({2, 9, 11, 3}, 4);
    constexpr int64_t kSize = 4;
    std::vector<float> out(2 * 2 * 2 * kSize * kSize * 3, kPoison);
    gather_patches(ctx, View<float, 2>(out.data(), {8, kSize * kSize * 3}), x.view(), kSize);
    size_t i = 0;
    for (int64_t patch = 0; patch < 8; ++patch) {
      const int64_t top = patch / 2 % 2 * kSize;
      const int64_t left = patch % 2 * kSize;
      for (int64_t y = 0; y < kSize; ++y) {
        for (int64_t px = 0; px < kSize; ++px) {
          for (int64_t c = 0; c < 3; ++c, ++i) {
            ASSERT_EQ(out[i], x.at(patch / 4, top + y, left + px, c));
          }
        }
      }
    }
  });
}

TEST(ImageOps, LayerNormIsItsDefinition) {
  for_each_runtime([](Context& ctx) {
    for (const int64_t n : {1, 7, 8, 16, 40, 97, 768}) {
      constexpr int64_t kRows = 50;
      std::vector<float> x = random_values(kRows * n, 7);
      for (float& value : x) value += 100.0F;  // a mean far above the spread
      const std::vector<float> weight = random_values(n, 8);
      const std::vector<float> bias = random_values(n, 9);
      std::vector<float> out(x.size(), kPoison);
      layer_norm(ctx, View<float, 2>(out.data(), {kRows, n}), View<float, 2>(x.data(), {kRows, n}),
                 {{weight.data(), {n}}, {bias.data(), {n}}, 1e-6F});
      for (int64_t row = 0; row < kRows; ++row) {
        const float* values = x.data() + row * n;
        double mean = 0;
        for (int64_t i = 0; i < n; ++i) mean += values[i];
        mean /= static_cast<double>(n);
        double variance = 0;
        for (int64_t i = 0; i < n; ++i) variance += (values[i] - mean) * (values[i] - mean);
        variance /= static_cast<double>(n);
        for (int64_t i = 0; i < n; ++i) {
          const auto at = static_cast<size_t>(i);
          const double expected =
              (values[i] - mean) / std::sqrt(variance + 1e-6) * weight[at] + bias[at];
          ASSERT_NEAR(out[static_cast<size_t>(row * n + i)], expected, 3e-4) << n << ' ' << row;
        }
      }
    }
  });
}

TEST(ImageOps, GeluIsWithinItsBound) {
  for_each_runtime([](Context& ctx) {
    std::vector<float> x;
    for (int i = -120000; i <= 120000; ++i) x.push_back(static_cast<float>(i) * 1e-4F);
    for (const float value : {1e-30F, -1e-30F, 100.0F, -100.0F, 1e30F, -1e30F}) x.push_back(value);
    std::vector<float> y = x;
    const View<float, 2> row(y.data(), {1, static_cast<int64_t>(y.size())});
    gelu(ctx, row, row);
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = 0.5 * double{x[i]} * std::erfc(-double{x[i]} / std::sqrt(2.0));
      ASSERT_NEAR(y[i], exact, 4e-7 * std::max(1.0, std::abs(double{x[i]}))) << x[i];
    }
  });
}

TEST(ImageOps, AveragePoolIsTheMeanOfPixels) {
  for_each_runtime([](Context& ctx) {
    ImageValues x({3, 7, 5, 33}, 6);
    std::vector<float> out(3 * 33, kPoison);
    average_pool(ctx, View<float, 2>(out.data(), {3, 33}), x.view());
    for (int64_t image = 0; image < 3; ++image) {
      for (int64_t c = 0; c < 33; ++c) {
        double sum = 0;
        for (int64_t pixel = 0; pixel < 35; ++pixel) sum += x.at(image, pixel / 5, pixel % 5, c);
        ASSERT_NEAR(out[static_cast<size_t>(image * 33 + c)], sum / 35, 1e-6);
      }
    }
  });
}

}  // namespace
}  // namespace comet
