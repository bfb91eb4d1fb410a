// packed_product and packed_mlp against their definitions in double, on every instruction set of
// the machine; the same bits whatever the number of rows and threads.
#include "comet/ops/packed_product/packed_product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "comet/base/rng.h"
#include "comet/ops/gelu/gelu.h"

namespace comet {
namespace {

struct Matrix {
  int64_t rows, columns;
  std::vector<float> data;

  Matrix(int64_t num_rows, int64_t num_columns, uint64_t seed)
      : rows(num_rows), columns(num_columns), data(static_cast<size_t>(num_rows * num_columns)) {
    Rng rng(seed);
    for (float& value : data) value = rng.next_normal();
  }
  View<float, 2> view() { return {data.data(), {rows, columns}}; }
  [[nodiscard]] const float* row(int64_t i) const { return data.data() + i * columns; }
};

struct Layer {
  Matrix weight, bias;
  Tensor panels;

  Layer(Context& ctx, int64_t n, int64_t k, uint64_t seed)
      : weight(n, k, seed), bias(1, n, seed + 1) {
    for (float& value : weight.data) value /= std::sqrt(static_cast<float>(k));
    panels =
        allocate_tensor(host_allocator(), DType::kF32, {packed_weight_size(ctx.caps, n, k) + 16});
    panels.data<float>()[packed_weight_size(ctx.caps, n, k)] = 4711.0F;
    pack_weights(ctx.caps, panels.data<float>(), weight.view());
    EXPECT_EQ(panels.data<float>()[packed_weight_size(ctx.caps, n, k)], 4711.0F);
  }
  [[nodiscard]] PackedWeights packed() {
    return {panels.data<float>(), bias.data.data(), weight.rows, weight.columns};
  }
  [[nodiscard]] double at(const double* x, int64_t column) const {
    double sum = bias.data[static_cast<size_t>(column)];
    for (int64_t i = 0; i < weight.columns; ++i) sum += x[i] * double{weight.row(column)[i]};
    return sum;
  }
};

double gelu_exact(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }

template <typename Body>
void for_each_isa(const Body& body) {
  for (const CpuIsa isa : available_cpu_isas()) {
    SCOPED_TRACE(cpu_isa_name(isa));
    body(isa);
  }
}

std::vector<float> product_of(CpuIsa isa, int num_threads, Matrix& x, int64_t n, PackedEnd end) {
  const auto runtime = Runtime::cpu(isa, num_threads);
  Context& ctx = runtime->context();
  Layer layer(ctx, n, x.columns, 5);
  Matrix out(x.rows, n, 6);
  packed_product(ctx, out.view(), x.view(), layer.packed(), end);
  return out.data;
}

void expect_product(CpuIsa isa, int64_t rows, int64_t n, int64_t k, PackedEnd end) {
  SCOPED_TRACE(fmt::format("[{}, {}] · [{}, {}], end {}", rows, k, n, k, static_cast<int>(end)));
  Matrix x(rows, k, 3);
  const auto runtime = Runtime::cpu(isa, 1);
  const Layer layer(runtime->context(), n, k, 5);
  const Matrix before(rows, n, 6);
  const std::vector<float> out = product_of(isa, 1, x, n, end);
  for (int64_t i = 0; i < rows; ++i) {
    const std::vector<double> wide(x.row(i), x.row(i) + k);
    for (int64_t column = 0; column < n; ++column) {
      double expected = layer.at(wide.data(), column);
      if (end == PackedEnd::kGelu) expected = gelu_exact(expected);
      if (end == PackedEnd::kAdd) expected += double{before.row(i)[column]};
      ASSERT_NEAR(out[static_cast<size_t>(i * n + column)], expected, 1e-5) << i << ", " << column;
    }
  }
  const std::vector<float> with_two_threads = product_of(isa, 2, x, n, end);
  ASSERT_EQ(out, with_two_threads);
}

TEST(PackedProduct, FollowsItsDefinition) {
  for_each_isa([](CpuIsa isa) {
    for (const PackedEnd end : {PackedEnd::kPlain, PackedEnd::kGelu, PackedEnd::kAdd}) {
      expect_product(isa, 1, 1, 1, end);
      expect_product(isa, 13, 33, 7, end);
      expect_product(isa, 27, 49, 257, end);
      expect_product(isa, 150, 96, 48, end);
      expect_product(isa, 139, 40, 600, end);
    }
  });
}

TEST(PackedProduct, BitsOfARowDoNotDependOnItsCompany) {
  for_each_isa([](CpuIsa isa) {
    constexpr int64_t kColumns = 50;
    Matrix all(200, 300, 3);
    const std::vector<float> whole = product_of(isa, 2, all, kColumns, PackedEnd::kGelu);
    for (const int64_t rows : {1, 5, 17, 90}) {
      Matrix few(rows, 300, 3);
      ASSERT_TRUE(std::equal(few.data.begin(), few.data.end(), all.data.begin()));
      const std::vector<float> part = product_of(isa, 1, few, kColumns, PackedEnd::kGelu);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin())) << rows;
    }
  });
}

TEST(PackedProduct, RowsMayBeParts) {
  for_each_isa([](CpuIsa isa) {
    const auto runtime = Runtime::cpu(isa, 2);
    Context& ctx = runtime->context();
    Layer layer(ctx, 20, 30, 5);
    Matrix x(200, 64, 3);
    Matrix out(200, 50, 4);
    Matrix narrow(200, 30, 3);
    for (int64_t i = 0; i < 200; ++i) {
      std::copy_n(x.row(i) + 3, 30, narrow.data.data() + i * 30);
    }
    const Matrix before = out;
    packed_product(ctx, {out.data.data() + 7, {200, 20}, {50, 1}},
                   {x.data.data() + 3, {200, 30}, {64, 1}}, layer.packed(), PackedEnd::kPlain);
    const std::vector<float> expected = product_of(isa, 1, narrow, 20, PackedEnd::kPlain);
    for (int64_t i = 0; i < 200; ++i) {
      for (int64_t j = 0; j < 50; ++j) {
        const bool inside = j >= 7 && j < 27;
        ASSERT_EQ(out.row(i)[j],
                  inside ? expected[static_cast<size_t>(i * 20 + j - 7)] : before.row(i)[j]);
      }
    }
  });
}

TEST(PackedMlp, HasTheBitsOfItsSteps) {
  for_each_isa([](CpuIsa isa) {
    for (const int num_threads : {1, 2}) {
      const auto runtime = Runtime::cpu(isa, num_threads);
      Context& ctx = runtime->context();
      for (const int64_t rows : {1, 49, 131, 500}) {
        Layer fc1(ctx, 300, 70, 1);
        Layer fc2(ctx, 70, 300, 3);
        Matrix x(rows, 70, 7);
        Matrix to(rows, 70, 8);
        Matrix expected = to;
        Matrix hidden(rows, 300, 9);
        packed_product(ctx, hidden.view(), x.view(), fc1.packed(), PackedEnd::kPlain);
        gelu(ctx, hidden.view(), hidden.view());
        packed_product(ctx, expected.view(), hidden.view(), fc2.packed(), PackedEnd::kAdd);
        packed_mlp(ctx, to.view(), x.view(), fc1.packed(), fc2.packed());
        ASSERT_EQ(to.data, expected.data) << rows << " rows, " << num_threads << " threads";
      }
    }
  });
}

TEST(PackedProduct, ShapesMustFit) {
  const auto runtime = Runtime::cpu(CpuIsa::kPortable, 1);
  Context& ctx = runtime->context();
  Layer layer(ctx, 20, 30, 5);
  Matrix x(4, 31, 3);
  Matrix out(4, 20, 4);
  EXPECT_THROW(packed_product(ctx, out.view(), x.view(), layer.packed(), PackedEnd::kPlain),
               CheckError);
}

}  // namespace
}  // namespace comet
