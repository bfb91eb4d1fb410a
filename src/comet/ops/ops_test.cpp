// Every operator against float64, on every instruction set of the machine, with 1 and 2 threads,
// odd sizes and rows that are strided.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "comet/base/rng.h"
#include "comet/ops/add/add.h"
#include "comet/ops/embedding/embedding.h"
#include "comet/ops/op_table.h"
#include "comet/ops/rms_norm/rms_norm.h"
#include "comet/ops/rope/rope.h"
#include "comet/ops/silu_mul/silu_mul.h"

namespace comet {
namespace {

constexpr float kPoison = -777.0F;

/// A matrix with `gap` poisoned floats behind each row.
struct Matrix {
  int64_t rows, n, stride;
  std::vector<float> data;

  Matrix(int64_t num_rows, int64_t num_columns, int64_t gap = 3)
      : rows(num_rows),
        n(num_columns),
        stride(num_columns + gap),
        data(static_cast<size_t>(num_rows * stride), kPoison) {}
  static Matrix random(int64_t rows, int64_t n, uint64_t seed, float spread = 1.0F) {
    Matrix m(rows, n);
    Rng rng(seed);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < n; ++j) m.at(i, j) = spread * rng.next_normal();
    }
    return m;
  }
  float& at(int64_t i, int64_t j) { return data[static_cast<size_t>(i * stride + j)]; }
  View<float, 2> view() { return {data.data(), {rows, n}, {stride, 1}}; }
  /// Nothing was written between rows.
  void expect_gaps_untouched() {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = n; j < stride; ++j) EXPECT_EQ(at(i, j), kPoison);
    }
  }
};

struct Size {
  int64_t rows, n;
};
const std::vector<Size>& sizes() {
  static const std::vector<Size> all{{1, 1}, {1, 7},   {3, 16},  {2, 33},   {5, 64},
                                     {0, 8}, {1, 384}, {4, 127}, {70, 513}, {300, 130}};
  return all;
}

/// Calls body(ctx, size) for every instruction set, 1 and 2 threads, and every size.
template <typename Body>
void for_each_setting(const Body& body) {
  for (const CpuIsa isa : available_cpu_isas()) {
    for (const int num_threads : {1, 2}) {
      const auto runtime = Runtime::cpu(isa, num_threads);
      for (const Size& size : sizes()) {
        SCOPED_TRACE(fmt::format("{} {} threads [{}, {}]", cpu_isa_name(isa), num_threads,
                                 size.rows, size.n));
        body(runtime->context(), size);
      }
    }
  }
}

TEST(RmsNorm, MatchesFloat64) {
  for_each_setting([](Context& ctx, const Size& size) {
    Matrix x = Matrix::random(size.rows, size.n, 1, 3.0F);
    Matrix weight = Matrix::random(1, size.n, 2);
    Matrix out(size.rows, size.n);
    const float eps = 1e-5F;
    rms_norm(ctx, out.view(), x.view(), View<const float, 1>(weight.data.data(), {size.n}), eps);
    out.expect_gaps_untouched();
    for (int64_t i = 0; i < size.rows; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < size.n; ++j) sum += static_cast<double>(x.at(i, j)) * x.at(i, j);
      const double scale = 1.0 / std::sqrt(sum / static_cast<double>(size.n) + eps);
      for (int64_t j = 0; j < size.n; ++j) {
        const double expected = x.at(i, j) * scale * weight.at(0, j);
        ASSERT_NEAR(out.at(i, j), expected, 1e-6 * std::abs(expected) + 1e-30);
      }
    }
  });
}

TEST(SiluMul, MatchesFloat64) {
  for_each_setting([](Context& ctx, const Size& size) {
    Matrix gate = Matrix::random(size.rows, size.n, 3, 8.0F);
    Matrix up = Matrix::random(size.rows, size.n, 4);
    Matrix out(size.rows, size.n);
    silu_mul(ctx, out.view(), gate.view(), up.view());
    out.expect_gaps_untouched();
    for (int64_t i = 0; i < size.rows; ++i) {
      for (int64_t j = 0; j < size.n; ++j) {
        const double g = gate.at(i, j);
        const double expected = g / (1.0 + std::exp(-g)) * up.at(i, j);
        ASSERT_NEAR(out.at(i, j), expected, 5e-7 * std::abs(expected) + 1e-30);
      }
    }
  });
}

TEST(SiluMul, ExtremesStayInRange) {
  const std::vector<float> gate{0.0F,   -0.0F, 100.0F,   -100.0F,   1e30F, -1e30F,
                                -87.5F, 88.5F, INFINITY, -INFINITY, NAN};
  const std::vector<float> up(gate.size(), 2.0F);
  for (const CpuIsa isa : available_cpu_isas()) {
    std::vector<float> out(gate.size());
    cpu_op_table(isa).silu_mul_row(out.data(), gate.data(), up.data(),
                                   static_cast<int64_t>(gate.size()));
    EXPECT_EQ(out[0], 0.0F);
    EXPECT_EQ(out[2], 200.0F);
    EXPECT_NEAR(out[3], 0.0F, 1e-30F);
    EXPECT_EQ(out[4], 2e30F);
    EXPECT_EQ(out[5], 0.0F);
    EXPECT_NEAR(out[6], 0.0F, 1e-30F);
    EXPECT_EQ(out[7], 177.0F);
    EXPECT_EQ(out[8], INFINITY);
    EXPECT_TRUE(std::isnan(out[10]));
  }
}

/// eˣ = x / silu(x) − 1 would lose digits; with gate = −x, silu = −x / (1 + eˣ) is read at large x.
TEST(Exp, IsAccurateAcrossItsRange) {
  for (const CpuIsa isa : available_cpu_isas()) {
    for (float x = 20.0F; x < 87.0F; x += 0.0137F) {
      const float gate = -x;
      const float up = 1.0F;
      float out = 0.0F;
      cpu_op_table(isa).silu_mul_row(&out, &gate, &up, 1);
      const double expected = -static_cast<double>(x) * std::exp(-static_cast<double>(x));
      ASSERT_NEAR(out / expected, 1.0, 4e-7) << x;
    }
  }
}

TEST(Add, IsExact) {
  for_each_setting([](Context& ctx, const Size& size) {
    Matrix x = Matrix::random(size.rows, size.n, 5);
    Matrix before = x;
    Matrix y = Matrix::random(size.rows, size.n, 6);
    add(ctx, x.view(), y.view());
    x.expect_gaps_untouched();
    for (int64_t i = 0; i < size.rows; ++i) {
      for (int64_t j = 0; j < size.n; ++j) ASSERT_EQ(x.at(i, j), before.at(i, j) + y.at(i, j));
    }
  });
}

TEST(Embedding, WidensRowsExactly) {
  constexpr int64_t kVocabulary = 300;
  for_each_setting([](Context& ctx, const Size& size) {
    Rng rng(7);
    std::vector<int32_t> tokens(static_cast<size_t>(size.rows));
    for (int32_t& token : tokens) token = static_cast<int32_t>(rng.next_below(kVocabulary));
    for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
      const int64_t num_values = kVocabulary * size.n;
      Tensor table(std::make_shared<Storage>(host_allocator(),
                                             static_cast<size_t>(num_values * dtype_bytes(dtype))),
                   0, dtype, {kVocabulary, size.n});
      std::vector<float> values(static_cast<size_t>(num_values));
      for (int64_t i = 0; i < num_values; ++i) {
        // Small enough that some FP16 values are subnormal.
        const float x = rng.next_normal() * std::exp2(-static_cast<float>(i % 24));
        if (dtype == DType::kF32) {
          table.data<float>()[i] = values[i] = x;
        } else if (dtype == DType::kF16) {
          values[i] = to_float(table.data<Float16>()[i] = to_float16(x));
        } else {
          values[i] = to_float(table.data<BFloat16>()[i] = to_bfloat16(x));
        }
      }
      Matrix out(size.rows, size.n);
      embedding(ctx, out.view(), table, tokens);
      out.expect_gaps_untouched();
      for (int64_t i = 0; i < size.rows; ++i) {
        for (int64_t j = 0; j < size.n; ++j)
          ASSERT_EQ(out.at(i, j), values[static_cast<size_t>(tokens[i] * size.n + j)]);
      }
    }
  });
}

TEST(Embedding, EveryFloat16WidensAlike) {
  std::vector<uint16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  std::vector<float> out(bits.size());
  for (const CpuIsa isa : available_cpu_isas()) {
    cpu_op_table(isa).f32_from_f16(out.data(), bits.data(), 65536);
    for (size_t i = 0; i < bits.size(); ++i) {
      const float expected = to_float(Float16{bits[i]});
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(out[i]));
      } else {
        ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(expected)) << i;
      }
    }
  }
}

TEST(Rope, MatchesFloat64AndIsTheSameEverywhere) {
  for (const int64_t head_dim : {2, 6, 64, 80, 128}) {
    const int64_t num_tokens = 67;
    const int64_t num_heads = 3;
    std::vector<float> inv_freq;
    for (int64_t i = 0; i < head_dim; i += 2)
      inv_freq.push_back(
          static_cast<float>(1.0 / std::pow(10000.0, static_cast<double>(i) / head_dim)));
    std::vector<int32_t> positions;
    for (int32_t t = 0; t < num_tokens; ++t) positions.push_back(t * t * 7);
    Matrix x = Matrix::random(num_tokens, num_heads * head_dim, 8);
    std::vector<float> first;
    for (const CpuIsa isa : available_cpu_isas()) {
      for (const int num_threads : {1, 2}) {
        Matrix y = x;
        const auto runtime = Runtime::cpu(isa, num_threads);
        rope(runtime->context(),
             {y.data.data(), {num_tokens, num_heads, head_dim}, {y.stride, head_dim, 1}}, positions,
             inv_freq);
        y.expect_gaps_untouched();
        if (first.empty()) first = y.data;
        EXPECT_EQ(y.data, first);
      }
    }
    for (int64_t t = 0; t < num_tokens; ++t) {
      for (int64_t i = 0; i < num_heads * head_dim; ++i) {
        const int64_t half = head_dim / 2;
        const int64_t d = i % head_dim;
        // The angle itself is an FP32 product, as in Hugging Face's code.
        const float angle = static_cast<float>(positions[t]) * inv_freq[d % half];
        const double turned = d < half ? -x.at(t, i + half) : x.at(t, i - half);
        const double expected = x.at(t, i) * std::cos(static_cast<double>(angle)) +
                                turned * std::sin(static_cast<double>(angle));
        ASSERT_NEAR(first[static_cast<size_t>(t * x.stride + i)], expected, 1e-6);
      }
    }
  }
}

/// The definition, stage by stage.
std::vector<float> reference_hadamard(std::vector<float> x) {
  const size_t n = x.size();
  for (size_t stride = 1; stride < n; stride *= 2) {
    std::vector<float> y(n);
    for (size_t i = 0; i < n; ++i)
      y[i] = (i & stride) == 0 ? x[i] + x[i + stride] : x[i - stride] - x[i];
    x = y;
  }
  for (float& value : x) value *= static_cast<float>(1.0 / std::sqrt(static_cast<double>(n)));
  return x;
}

TEST(Hadamard, SameBitsAsTheDefinition) {
  Rng rng(9);
  for (int64_t n = 1; n <= 1024; n *= 2) {
    std::vector<float> x(static_cast<size_t>(n));
    for (float& value : x) value = rng.next_normal();
    const std::vector<float> expected = reference_hadamard(x);
    for (const CpuIsa isa : available_cpu_isas()) {
      std::vector<float> y = x;
      cpu_op_table(isa).hadamard(y.data(), n);
      EXPECT_EQ(y, expected) << cpu_isa_name(isa) << " " << n;
    }
  }
}

TEST(Ops, ShapesAreChecked) {
  const auto runtime = Runtime::cpu(CpuIsa::kPortable, 1);
  Context& ctx = runtime->context();
  Matrix a(2, 8);
  Matrix b(2, 9);
  EXPECT_THROW(add(ctx, a.view(), b.view()), CheckError);
  EXPECT_THROW(silu_mul(ctx, a.view(), b.view(), a.view()), CheckError);
  EXPECT_THROW(rms_norm(ctx, a.view(), a.view(), View<const float, 1>(b.data.data(), {9}), 0.0F),
               CheckError);
  const View<float, 2> transposed(a.data.data(), {2, 2}, {1, a.stride});
  EXPECT_THROW(add(ctx, transposed, transposed), CheckError);
  const std::vector<int32_t> tokens{0, 5};
  Tensor table(std::make_shared<Storage>(host_allocator(), 5 * 8 * 4), 0, DType::kF32, {5, 8});
  EXPECT_THROW(embedding(ctx, a.view(), table, tokens), CheckError);
}

TEST(Ops, AllocateNothingFromTheArena) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  Matrix x = Matrix::random(100, 512, 1);
  silu_mul(ctx, x.view(), x.view(), x.view());
  add(ctx, x.view(), x.view());
  EXPECT_EQ(ctx.arena.num_blocks_taken(), 0);
}

}  // namespace
}  // namespace comet
