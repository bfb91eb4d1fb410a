// The packed kernel rows of w8a8-int have the bits of the reference and of what follows it, step by
// step, on every instruction set of the machine that has such a row.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "comet/base/rng.h"
#include "comet/formats/w8a8_int/w8a8_int.h"
#include "comet/ops/add/add.h"
#include "comet/ops/gelu/gelu.h"
#include "support/tensor_map.h"

namespace comet::formats {
namespace {

using ::comet::testing::make_tensor;
using ::comet::testing::TensorMap;

/// Codes from −128 to 127, scales of either size, biases.
LinearWeight drawn_weight(int64_t n, int64_t k, uint64_t seed, TensorMap& tensors) {
  Rng rng(seed);
  std::vector<int8_t> codes(static_cast<size_t>(n * k));
  for (int8_t& code : codes) code = static_cast<int8_t>(std::floor(256 * rng.next_uniform()) - 128);
  std::vector<float> scales(static_cast<size_t>(n));
  std::vector<float> biases(static_cast<size_t>(n));
  for (float& scale : scales) scale = 0.001F + 0.01F * rng.next_uniform();
  for (float& bias : biases) bias = rng.next_normal();
  tensors.set("fc.weight", make_tensor<int8_t>({n, k}, codes));
  tensors.set("fc.weight_scale", make_tensor<float>({n}, scales));
  tensors.set("fc.bias", make_tensor<float>({n}, biases));
  const LinearSpec spec{.name = "fc",
                        .prefix = "",
                        .parts = {"fc"},
                        .part_rows = {n},
                        .k = k,
                        .has_bias = true,
                        .may_round = true};
  return *w8a8_int_format().bind(spec, nullptr, tensors);
}

struct Matrix {
  int64_t rows, columns;
  std::vector<float> data;

  Matrix(int64_t num_rows, int64_t num_columns, uint64_t seed)
      : rows(num_rows), columns(num_columns), data(static_cast<size_t>(num_rows * num_columns)) {
    Rng rng(seed);
    for (float& value : data) value = rng.next_normal();
  }
  View<float, 2> view() { return {data.data(), {rows, columns}}; }
  [[nodiscard]] View<const float, 2> view() const { return {data.data(), {rows, columns}}; }
};

void expect_same_bits(const Matrix& a, const Matrix& b) {
  ASSERT_EQ(a.data.size(), b.data.size());
  for (size_t i = 0; i < a.data.size(); ++i) {
    if (std::isnan(a.data[i]) && std::isnan(b.data[i])) continue;
    ASSERT_EQ(std::memcmp(&a.data[i], &b.data[i], sizeof(float)), 0)
        << "row " << static_cast<int64_t>(i) / a.columns << ", column "
        << static_cast<int64_t>(i) % a.columns << ": " << a.data[i] << ", " << b.data[i];
  }
}

/// A weight as it was bound, and as its packed row has it.
struct Layer {
  TensorMap tensors;
  LinearWeight plain;
  LinearWeight packed;

  Layer(Context& ctx, int64_t n, int64_t k, uint64_t seed)
      : plain(drawn_weight(n, k, seed, tensors)), packed(plain) {
    EXPECT_TRUE(plan_linear(packed, ctx.caps).ok());
    EXPECT_TRUE(prepare(ctx).ok());
  }
  Status prepare(Context& ctx) { return packed.backend->prepare(ctx, packed); }
  [[nodiscard]] bool has_row() const {
    return packed.kernel->name.find("packed") != std::string_view::npos;
  }
  /// By the reference and operators.
  void step_by_step(Context& ctx, const Matrix& x, Matrix& out, LinearEnd end) const {
    const ArenaScope scope(ctx.arena);
    const Activation input = w8a8_int_format().cpu.input_from_rows(ctx, plain, x.view());
    Matrix product = out;
    w8a8_int_format().reference_linear(plain, input, product.view());
    if (end == LinearEnd::kGelu) gelu(ctx, product.view(), product.view());
    if (end == LinearEnd::kAdd) {
      add(ctx, out.view(), product.view());
    } else {
      out = product;
    }
  }
};

template <typename Body>
void for_each_runtime(const Body& body) {
  for (const CpuIsa isa : available_cpu_isas()) {
    for (const int num_threads : {1, 2}) {
      SCOPED_TRACE(fmt::format("{}, {} threads", cpu_isa_name(isa), num_threads));
      const auto runtime = Runtime::cpu(isa, num_threads);
      body(runtime->context());
    }
  }
}

void expect_reference(Context& ctx, const Matrix& x, int64_t n) {
  SCOPED_TRACE(fmt::format("[{}, {}] · [{}]", x.rows, x.columns, n));
  const Layer layer(ctx, n, x.columns, 5);
  if (!layer.has_row()) return;
  const LinearKernel& kernel = *layer.packed.kernel;
  for (const LinearEnd end : {LinearEnd::kPlain, LinearEnd::kGelu, LinearEnd::kAdd}) {
    Matrix expected(x.rows, n, 6);
    Matrix from_rows = expected;
    Matrix from_codes = expected;
    layer.step_by_step(ctx, x, expected, end);
    kernel.run_rows(ctx, layer.packed, x.view(), from_rows.view(), end);
    expect_same_bits(from_rows, expected);
    const ArenaScope scope(ctx.arena);
    const Activation input = layer.packed.backend->input_from_rows(ctx, layer.packed, x.view());
    kernel.run_with(ctx, layer.packed, input, from_codes.view(), end);
    expect_same_bits(from_codes, expected);
  }
}

TEST(W8A8IntPacked, EveryInstructionSetFromAvx2OnHasARow) {
  for_each_runtime([](Context& ctx) {
    EXPECT_EQ(Layer(ctx, 3, 5, 1).has_row(), ctx.caps.cpu_isa >= CpuIsa::kAvx2);
  });
}

TEST(W8A8IntPacked, HasTheBitsOfTheReference) {
  for_each_runtime([](Context& ctx) {
    expect_reference(ctx, Matrix(1, 1, 2), 1);
    expect_reference(ctx, Matrix(13, 7, 2), 33);
    expect_reference(ctx, Matrix(29, 1030, 2), 49);
    expect_reference(ctx, Matrix(150, 48, 2), 96);
    expect_reference(ctx, Matrix(139, 130, 2), 40);
  });
}

TEST(W8A8IntPacked, RowsOfZerosAndOfWhatIsNoNumber) {
  for_each_runtime([](Context& ctx) {
    Matrix x(140, 20, 2);
    std::fill_n(x.data.data() + 3 * 20, 20, 0.0F);
    x.data[5 * 20 + 7] = std::nanf("");
    x.data[139 * 20] = std::numeric_limits<float>::infinity();
    expect_reference(ctx, x, 18);
  });
}

TEST(W8A8IntPacked, MlpHasTheBitsOfItsSteps) {
  for_each_runtime([](Context& ctx) {
    for (const int64_t rows : {1, 49, 131, 500}) {
      const Layer fc1(ctx, 90, 30, 5);
      const Layer fc2(ctx, 30, 90, 6);
      if (!fc1.has_row()) continue;
      const Matrix x(rows, 30, 7);
      Matrix expected(rows, 30, 8);
      Matrix to = expected;
      Matrix hidden(rows, 90, 9);
      fc1.step_by_step(ctx, x, hidden, LinearEnd::kGelu);
      fc2.step_by_step(ctx, hidden, expected, LinearEnd::kAdd);
      fc1.packed.kernel->run_mlp(ctx, fc1.packed, fc2.packed, x.view(), to.view());
      expect_same_bits(to, expected);
    }
  });
}

}  // namespace
}  // namespace comet::formats
