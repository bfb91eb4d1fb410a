// The CUDA operators against float64 or the CPU's own rows: odd sizes, strided rows, one row and a
// thousand, poisoned outputs.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "comet/base/rng.h"
#include "comet/ops/cuda/launches.h"
#include "comet/ops/row_ops.h"
#include "comet/tensor/dtype.h"
#include "support/gpu.h"

namespace comet::ops_cuda {
namespace {

using testing::DeviceArray;

struct Size {
  int64_t rows, n;
};
constexpr std::array<Size, 11> kSizes{{{1, 1},
                                       {1, 7},
                                       {3, 16},
                                       {2, 33},
                                       {5, 64},
                                       {1, 384},
                                       {4, 4096},
                                       {7, 3584},
                                       {2, 16384},
                                       {3, 16387},
                                       {1000, 130}}};
constexpr std::array kTypes{FloatType::kF32, FloatType::kF16, FloatType::kBF16};

float round_to(FloatType type, float x) {
  if (type == FloatType::kF32) return x;
  return type == FloatType::kBF16 ? to_float(to_bfloat16(x)) : to_float(to_float16(x));
}
/// Half an ulp of the type, relative.
double half_ulp(FloatType type) {
  return type == FloatType::kF32 ? 0x1p-24 : type == FloatType::kBF16 ? 0x1p-8 : 0x1p-11;
}

/// A matrix on the device with `gap` poisoned elements behind each row.
class Matrix {
 public:
  Matrix(FloatType type, Size size, int64_t gap)
      : type_(type), size_(size), stride_(size.n + gap), bytes_(size.rows * stride_ * element()) {}
  Matrix(FloatType type, Size size, int64_t gap, uint64_t seed, float spread)
      : Matrix(type, size, gap) {
    std::vector<uint8_t> image = bytes_.to_host();
    Rng rng(seed);
    for (int64_t i = 0; i < size.rows; ++i) {
      for (int64_t j = 0; j < size.n; ++j) put(image, i, j, spread * rng.next_normal());
    }
    COMET_CUDA(cudaMemcpy(bytes_.get(), image.data(), image.size(), cudaMemcpyHostToDevice));
    COMET_CUDA(cudaDeviceSynchronize());
  }

  [[nodiscard]] FloatRows rows() const { return {bytes_.get(), stride_, type_}; }
  /// [rows, n] widened; nothing was written between rows.
  [[nodiscard]] std::vector<float> values() const {
    const std::vector<uint8_t> image = bytes_.to_host();
    std::vector<float> result;
    for (int64_t i = 0; i < size_.rows; ++i) {
      for (int64_t j = 0; j < size_.n; ++j) result.push_back(at(image, i, j));
      for (int64_t b = (i * stride_ + size_.n) * element(); b < (i + 1) * stride_ * element();
           ++b) {
        EXPECT_EQ(image[static_cast<size_t>(b)], 0xFF) << "behind row " << i;
      }
    }
    return result;
  }

 private:
  [[nodiscard]] int64_t element() const { return type_ == FloatType::kF32 ? 4 : 2; }
  void put(std::vector<uint8_t>& image, int64_t i, int64_t j, float x) const {
    uint8_t* to = image.data() + (i * stride_ + j) * element();
    const uint16_t bits = type_ == FloatType::kBF16 ? to_bfloat16(x).bits : to_float16(x).bits;
    type_ == FloatType::kF32 ? std::memcpy(to, &x, 4) : std::memcpy(to, &bits, 2);
  }
  [[nodiscard]] float at(const std::vector<uint8_t>& image, int64_t i, int64_t j) const {
    const uint8_t* from = image.data() + (i * stride_ + j) * element();
    float x = 0;
    uint16_t bits = 0;
    type_ == FloatType::kF32 ? std::memcpy(&x, from, 4) : std::memcpy(&bits, from, 2);
    if (type_ == FloatType::kF32) return x;
    return type_ == FloatType::kBF16 ? to_float(BFloat16{bits}) : to_float(Float16{bits});
  }

  FloatType type_;
  Size size_;
  int64_t stride_;
  DeviceArray<uint8_t> bytes_;
};

/// Calls body(size, gap) for aligned and unaligned rows; all work is on gpu.stream.
template <typename Body>
void for_each_size(const Body& body) {
  for (const Size& size : kSizes) {
    for (const int64_t gap : {0, 3, 8}) {
      SCOPED_TRACE(::testing::Message() << size.rows << " × " << size.n << " gap " << gap);
      body(size, gap);
    }
  }
}

TEST(OpsCuda, ConvertRoundsAsTheCpuDoes) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for_each_size([&](const Size& size, int64_t gap) {
    for (const FloatType from : kTypes) {
      for (const FloatType to : kTypes) {
        const Matrix x(from, size, gap, 1, 100.0F);
        const Matrix out(to, size, gap);
        launch_convert({out.rows(), x.rows(), size.rows, size.n}, gpu->stream);
        std::vector<float> expected = x.values();
        for (float& value : expected) value = round_to(to, value);
        ASSERT_EQ(out.values(), expected);
      }
    }
  });
}

TEST(OpsCuda, ConvertKeepsExtremes) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> values{0.0F,   -0.0F,       inf,     -inf,      3.4e38F,   -3.4e38F,
                                  1e-45F, 65504,       65520,   -65519,    6e-8F,     2.9e-8F,
                                  1e-40F, 1.00390625F, 1.0117F, 0x1p-133F, 0x1p-134F, NAN};
  const DeviceArray<float> x(values);
  for (const FloatType to : {FloatType::kBF16, FloatType::kF16}) {
    const DeviceArray<uint16_t> out(values.size());
    const auto n = static_cast<int64_t>(values.size());
    launch_convert({{out.get(), n, to}, {x.get(), n, FloatType::kF32}, 1, n}, gpu->stream);
    const std::vector<uint16_t> bits = out.to_host();
    for (size_t i = 0; i + 1 < values.size(); ++i) {
      EXPECT_EQ(bits[i],
                to == FloatType::kBF16 ? to_bfloat16(values[i]).bits : to_float16(values[i]).bits)
          << values[i];
    }
    EXPECT_GT(bits.back() & 0x7FFF, to == FloatType::kBF16 ? 0x7F80 : 0x7C00);  // NaN
  }
}

TEST(OpsCuda, AddIsOneSum) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for_each_size([&](const Size& size, int64_t gap) {
    for (const FloatType type : kTypes) {
      const Matrix x(FloatType::kF32, size, gap, 1, 3.0F);
      const Matrix y(type, size, gap, 2, 1.0F);
      std::vector<float> expected = x.values();
      const std::vector<float> other = y.values();
      for (size_t i = 0; i < expected.size(); ++i) expected[i] += other[i];
      launch_add({x.rows(), y.rows(), size.rows, size.n}, gpu->stream);
      ASSERT_EQ(x.values(), expected);
      ASSERT_EQ(y.values(), other);
    }
  });
}

TEST(OpsCuda, EmbeddingCopiesRows) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for_each_size([&](const Size& size, int64_t gap) {
    for (const FloatType type : kTypes) {
      const int64_t vocab = 50;
      const Matrix table(type, {vocab, size.n}, 0, 5, 1.0F);
      Rng rng(3);
      std::vector<int32_t> tokens(static_cast<size_t>(size.rows));
      for (int32_t& token : tokens) token = static_cast<int32_t>(rng.next_below(vocab));
      if (size.rows > 2) tokens[1] = vocab, tokens[2] = -1;
      const DeviceArray<int32_t> device_tokens(tokens);
      const Matrix out(FloatType::kF32, size, gap);
      launch_embedding({out.rows(), table.rows(), device_tokens.get(), size.rows, size.n, vocab},
                       gpu->stream);
      const std::vector<float> result = out.values();
      const std::vector<float> rows = table.values();
      for (int64_t i = 0; i < size.rows; ++i) {
        for (int64_t j = 0; j < size.n; ++j) {
          const float value = result[i * size.n + j];
          if (tokens[i] < 0 || tokens[i] >= vocab) {
            ASSERT_TRUE(std::isnan(value));
          } else {
            ASSERT_EQ(value, rows[tokens[i] * size.n + j]);
          }
        }
      }
    }
  });
}

TEST(OpsCuda, GatherRowsAddsTheDelta) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for_each_size([&](const Size& size, int64_t gap) {
    for (const bool has_delta : {false, true}) {
      const int64_t num_rows = 40;
      const Matrix x(FloatType::kF32, {num_rows, size.n}, gap, 5, 1.0F);
      const Matrix delta(FloatType::kBF16, {num_rows, size.n}, gap, 6, 1.0F);
      Rng rng(3);
      std::vector<int32_t> idxs(static_cast<size_t>(size.rows));
      for (int32_t& idx : idxs) idx = static_cast<int32_t>(rng.next_below(num_rows));
      const DeviceArray<int32_t> device_idxs(idxs);
      const Matrix out(FloatType::kF32, size, gap);
      launch_gather_rows({out.rows(), x.rows(), has_delta ? delta.rows() : FloatRows{},
                          device_idxs.get(), size.rows, size.n, num_rows},
                         gpu->stream);
      const std::vector<float> result = out.values();
      const std::vector<float> xs = x.values();
      const std::vector<float> deltas = delta.values();
      for (int64_t i = 0; i < size.rows; ++i) {
        for (int64_t j = 0; j < size.n; ++j) {
          const auto at = static_cast<size_t>(idxs[i] * size.n + j);
          ASSERT_EQ(result[i * size.n + j], has_delta ? xs[at] + deltas[at] : xs[at]);
        }
      }
    }
  });
}

TEST(OpsCuda, RmsNormMatchesFloat64) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  const float eps = 1e-5F;
  for_each_size([&](const Size& size, int64_t gap) {
    for (const bool has_delta : {false, true}) {
      for (const FloatType out_type : {FloatType::kF32, FloatType::kBF16}) {
        const Matrix x(FloatType::kF32, size, gap, 1, 3.0F);
        const Matrix delta(FloatType::kBF16, size, gap, 2, 1.0F);
        const Matrix weight(FloatType::kF32, {1, size.n}, 0, 3, 1.0F);
        const Matrix out(out_type, size, gap);
        std::vector<float> sums = x.values();
        const std::vector<float> deltas = delta.values();
        for (size_t i = 0; has_delta && i < sums.size(); ++i) sums[i] += deltas[i];
        launch_rms_norm({out.rows(), x.rows(), has_delta ? delta.rows() : FloatRows{},
                         static_cast<const float*>(weight.rows().data), eps, size.rows, size.n},
                        gpu->stream);
        ASSERT_EQ(x.values(), sums);
        const std::vector<float> result = out.values();
        const std::vector<float> weights = weight.values();
        for (int64_t i = 0; i < size.rows; ++i) {
          const float* row = sums.data() + i * size.n;
          double sum = 0;
          for (int64_t j = 0; j < size.n; ++j) sum += static_cast<double>(row[j]) * row[j];
          const double scale = 1.0 / std::sqrt(sum / static_cast<double>(size.n) + eps);
          for (int64_t j = 0; j < size.n; ++j) {
            const double expected = row[j] * scale * weights[j];
            ASSERT_NEAR(result[i * size.n + j], expected,
                        (1e-6 + half_ulp(out_type)) * std::abs(expected) + 1e-30);
          }
        }
      }
    }
  });
}

TEST(OpsCuda, SiluMulMatchesFloat64) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for_each_size([&](const Size& size, int64_t gap) {
    for (const FloatType type : {FloatType::kF32, FloatType::kBF16}) {
      const Matrix gate(type, size, gap, 3, 30.0F);
      const Matrix up(type, size, gap, 4, 1.0F);
      const Matrix out(type, size, gap);
      launch_silu_mul({out.rows(), gate.rows(), up.rows(), size.rows, size.n}, gpu->stream);
      const std::vector<float> result = out.values();
      const std::vector<float> gates = gate.values();
      const std::vector<float> ups = up.values();
      for (size_t i = 0; i < result.size(); ++i) {
        const double g = gates[i];
        const double expected = g / (1.0 + std::exp(-g)) * ups[i];
        ASSERT_NEAR(result[i], expected, (5e-7 + half_ulp(type)) * std::abs(expected) + 1e-35) << g;
      }
    }
  });
}

/// Heads [tokens, heads, d] cut out of rows with room for more (as q of a fused qkv).
struct HeadsCase {
  int64_t tokens, heads, head_dim, extra;
};
constexpr std::array<HeadsCase, 8> kHeads{{{1, 1, 2, 0},
                                           {3, 2, 16, 5},
                                           {5, 3, 64, 64},
                                           {2, 8, 128, 256},
                                           {130, 32, 128, 2048},
                                           {7, 4, 256, 0},
                                           {1000, 1, 64, 3},
                                           {2, 3, 512, 0}}};

FloatHeads heads_of(const Matrix& m, FloatType type, const HeadsCase& c) {
  return {m.rows().data, type, c.tokens, c.heads, c.head_dim, m.rows().stride, c.head_dim};
}

TEST(OpsCuda, RopeMatchesFloat64) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const HeadsCase& c : kHeads) {
    for (const FloatType type : {FloatType::kF32, FloatType::kBF16}) {
      SCOPED_TRACE(::testing::Message() << c.tokens << " " << c.heads << " " << c.head_dim);
      const Matrix x(type, {c.tokens, c.heads * c.head_dim}, c.extra, 1, 2.0F);
      const std::vector<float> before = x.values();
      const int64_t half = c.head_dim / 2;
      std::vector<float> inv_freq;
      for (int64_t i = 0; i < half; ++i) {
        inv_freq.push_back(static_cast<float>(std::pow(5e5, -static_cast<double>(i) / half)));
      }
      std::vector<int32_t> positions;
      Rng rng(9);
      for (int64_t i = 0; i < c.tokens; ++i) {
        positions.push_back(static_cast<int32_t>(rng.next_below(1 << 17)));
      }
      const DeviceArray<float> device_freq(inv_freq);
      const DeviceArray<int32_t> device_positions(positions);
      launch_rope(heads_of(x, type, c), device_positions.get(), device_freq.get(), gpu->stream);
      const std::vector<float> after = x.values();
      for (int64_t t = 0; t < c.tokens; ++t) {
        for (int64_t i = 0; i < c.heads * c.head_dim; ++i) {
          const int64_t pair = i % c.head_dim % half;
          const bool is_first = i % c.head_dim < half;
          const int64_t at = t * c.heads * c.head_dim + i;
          const float angle = static_cast<float>(positions[t]) * inv_freq[pair];  // as the CPU
          const double a = before[at];
          const double b = is_first ? before[at + half] : before[at - half];
          const double cosine = std::cos(static_cast<double>(angle));
          const double sine = std::sin(static_cast<double>(angle));
          const double expected = a * cosine + (is_first ? -b : b) * sine;
          ASSERT_NEAR(after[at], expected,
                      half_ulp(type) * std::abs(expected) + 4e-7 * (std::abs(a) + std::abs(b)));
        }
      }
    }
  }
}

TEST(OpsCuda, HeadRmsNormMatchesFloat64) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  const float eps = 1e-6F;
  for (const HeadsCase& c : kHeads) {
    for (const FloatType type : {FloatType::kF32, FloatType::kBF16}) {
      SCOPED_TRACE(::testing::Message() << c.tokens << " " << c.heads << " " << c.head_dim);
      const Matrix x(type, {c.tokens, c.heads * c.head_dim}, c.extra, 1, 2.0F);
      const Matrix weight(FloatType::kF32, {1, c.head_dim}, 0, 3, 1.0F);
      const std::vector<float> before = x.values();
      const std::vector<float> weights = weight.values();
      launch_head_rms_norm(heads_of(x, type, c), static_cast<const float*>(weight.rows().data), eps,
                           gpu->stream);
      const std::vector<float> after = x.values();
      for (int64_t head = 0; head < c.tokens * c.heads; ++head) {
        const float* row = before.data() + head * c.head_dim;
        double sum = 0;
        for (int64_t j = 0; j < c.head_dim; ++j) sum += static_cast<double>(row[j]) * row[j];
        const double scale = 1.0 / std::sqrt(sum / static_cast<double>(c.head_dim) + eps);
        for (int64_t j = 0; j < c.head_dim; ++j) {
          const double expected = row[j] * scale * weights[j];
          ASSERT_NEAR(after[head * c.head_dim + j], expected,
                      (1e-6 + half_ulp(type)) * std::abs(expected));
        }
      }
    }
  }
}

TEST(OpsCuda, HadamardEqualsTheCpuBitForBit) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  for (const HeadsCase& c : kHeads) {
    for (const FloatType type : {FloatType::kF32, FloatType::kBF16}) {
      SCOPED_TRACE(::testing::Message() << c.tokens << " " << c.heads << " " << c.head_dim);
      const Matrix x(type, {c.tokens, c.heads * c.head_dim}, c.extra, 1, 2.0F);
      std::vector<float> expected = x.values();
      for (int64_t head = 0; head < c.tokens * c.heads; ++head) {
        kRowOpsPortable.hadamard(expected.data() + head * c.head_dim, c.head_dim);
      }
      for (float& value : expected) value = round_to(type, value);
      launch_hadamard(heads_of(x, type, c), gpu->stream);
      ASSERT_EQ(x.values(), expected);
    }
  }
}

}  // namespace
}  // namespace comet::ops_cuda
