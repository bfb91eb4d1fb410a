// One suite over every registered format: pack/unpack, reference against float64, every kernel row
// on every instruction set of this machine, odd and empty shapes, poisoned outputs, error budget.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>

#include "comet/tensor/float8.h"
#include "support/linear_samples.h"

namespace comet::formats {
namespace {

using ::comet::testing::LinearSample;

const std::vector<LinearSample>& samples() {
  static const std::vector<LinearSample> all = ::comet::testing::linear_samples();
  return all;
}

std::vector<float> random_rows(int64_t rows, int64_t k, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> x;
  for (int64_t i = 0; i < rows * k; ++i) x.push_back(rng.next_normal());
  return x;
}

constexpr float kGuard = 12345.0F;

/// An output of NaN inside a frame of guard values.
struct PoisonedOutput {
  PoisonedOutput(int64_t num_rows, int64_t num_columns)
      : rows(num_rows),
        columns(num_columns),
        values(static_cast<size_t>((num_rows + 1) * (num_columns + 3)), kGuard) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) view()(i, j) = std::nanf("");
    }
  }
  View<float, 2> view() { return {values.data(), {rows, columns}, {columns + 3, 1}}; }
  [[nodiscard]] bool frame_intact() const {
    for (size_t i = 0; i < values.size(); ++i) {
      const bool inside = static_cast<int64_t>(i) / (columns + 3) < rows &&
                          static_cast<int64_t>(i) % (columns + 3) < columns;
      if (!inside && values[i] != kGuard) return false;
    }
    return true;
  }
  int64_t rows;
  int64_t columns;
  std::vector<float> values;
};

Activation make_input(Context& ctx, const LinearWeight& weight, const std::vector<float>& x,
                      int64_t rows) {
  return weight.format->cpu.input_from_rows(ctx, weight,
                                            View<const float, 2>(x.data(), {rows, weight.spec.k}));
}

/// Σ|x|·|w| of an output: the yardstick of a float product's rounding.
double magnitude(const LinearSample& sample, const float* x, int64_t row) {
  double sum = 1e-30;
  for (int64_t i = 0; i < sample.stored_k; ++i) {
    sum += std::abs(x[i] * sample.dequantized[static_cast<size_t>(row * sample.stored_k + i)]);
  }
  return sum + 1;
}

void expect_equal(const LinearSample& sample, const std::vector<float>& x, PoisonedOutput& out,
                  PoisonedOutput& expected, const std::string& what) {
  ASSERT_TRUE(out.frame_intact()) << what << ": wrote outside the output";
  for (int64_t i = 0; i < out.rows; ++i) {
    for (int64_t j = 0; j < out.columns; ++j) {
      const float got = out.view()(i, j);
      const float want = expected.view()(i, j);
      if (sample.exact) {
        ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(want))
            << what << " at " << i << ", " << j << ": " << got << " for " << want;
      } else {
        ASSERT_NEAR(got, want, 1e-6 * magnitude(sample, x.data() + i * sample.weight.spec.k, j))
            << what << " at " << i << ", " << j;
      }
    }
  }
}

TEST(FormatsConformance, EveryFormatHasSamples) {
  std::set<std::string_view> sampled;
  for (const LinearSample& sample : samples()) sampled.insert(sample.weight.format->name);
  for (const WeightFormat* format : weight_formats()) {
    EXPECT_TRUE(sampled.contains(format->name)) << format->name;
    EXPECT_EQ(*find_weight_format(format->name), format);
    EXPECT_FALSE(format->cpu.kernels.empty());
  }
  EXPECT_FALSE(find_weight_format("w4a15").ok());
}

TEST(FormatsConformance, UnpackInvertsPack) {
  for (const LinearSample& sample : samples()) {
    if (sample.quantized.empty()) continue;
    const QuantizedWeight& want = sample.quantized[0];
    const QuantizedWeight got = *sample.weight.format->unpack(sample.weight);
    EXPECT_EQ(got.codes, want.codes) << sample.label;
    EXPECT_EQ(got.channel_scale, want.channel_scale) << sample.label;
    EXPECT_EQ(got.group_multiplier, want.group_multiplier) << sample.label;
    EXPECT_EQ(got.group_offset, want.group_offset) << sample.label;
    EXPECT_EQ(got.bias, want.bias) << sample.label;
    EXPECT_EQ(got.site.perm, want.site.perm) << sample.label;
    EXPECT_EQ(got.site.clip, want.site.clip) << sample.label;
    EXPECT_EQ(got.site.int8_blocks, want.site.int8_blocks) << sample.label;
    EXPECT_EQ(got.part_rows, want.part_rows) << sample.label;
    EXPECT_EQ(got.group_scale, want.group_scale) << sample.label;
    EXPECT_EQ(got.group_zero, want.group_zero) << sample.label;
    EXPECT_EQ(got.group_size, want.group_size) << sample.label;
    EXPECT_EQ(got.scale_type, want.scale_type) << sample.label;
    EXPECT_EQ(got.channel_scale_type, want.channel_scale_type) << sample.label;
    EXPECT_EQ(got.code_type, want.code_type) << sample.label;
    EXPECT_EQ(got.site.scale, want.site.scale) << sample.label;
  }
}

TEST(FormatsConformance, EveryKernelEqualsTheReference) {
  for (const CpuIsa isa : available_cpu_isas()) {
    for (const int threads : {1, 2}) {
      const auto runtime = Runtime::cpu(isa, threads);
      Context& ctx = runtime->context();
      for (const LinearSample& sample : samples()) {
        for (const int64_t rows : {0, 1, 2, 3, 4, 5, 17}) {
          const ArenaScope scope(ctx.arena);
          const std::vector<float> x = random_rows(rows, sample.weight.spec.k, 11);
          const Activation input = make_input(ctx, sample.weight, x, rows);
          PoisonedOutput want(rows, sample.weight.spec.n());
          sample.weight.format->reference_linear(sample.weight, input, want.view());
          for (const LinearKernel& kernel : sample.weight.format->cpu.kernels) {
            if (!kernel.supports(sample.weight, ctx.caps)) continue;
            PoisonedOutput got(rows, sample.weight.spec.n());
            kernel.run(ctx, sample.weight, input, got.view());
            expect_equal(
                sample, x, got, want,
                fmt::format("{} {} rows={} threads={}", sample.label, kernel.name, rows, threads));
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

/// Every row of a long batch equals the same row alone: no output depends on its company.
TEST(FormatsConformance, OutputsDoNotDependOnTheBatch) {
  constexpr int64_t kRows = 203;  // more than two panels of 96, with a remainder
  for (const CpuIsa isa : available_cpu_isas()) {
    const auto runtime = Runtime::cpu(isa, 2);
    Context& ctx = runtime->context();
    for (const LinearSample& sample : samples()) {
      const ArenaScope scope(ctx.arena);
      const int64_t k = sample.weight.spec.k;
      const std::vector<float> x = random_rows(kRows, k, 5);
      const Activation input = make_input(ctx, sample.weight, x, kRows);
      for (const LinearKernel& kernel : sample.weight.format->cpu.kernels) {
        if (!kernel.supports(sample.weight, ctx.caps)) continue;
        PoisonedOutput batch(kRows, sample.weight.spec.n());
        kernel.run(ctx, sample.weight, input, batch.view());
        ASSERT_TRUE(batch.frame_intact()) << sample.label << kernel.name;
        for (const int64_t row : {0, 95, 96, 191, 200, 202}) {
          const ArenaScope row_scope(ctx.arena);
          const std::vector<float> one(x.begin() + row * k, x.begin() + (row + 1) * k);
          PoisonedOutput alone(1, sample.weight.spec.n());
          kernel.run(ctx, sample.weight, make_input(ctx, sample.weight, one, 1), alone.view());
          for (int64_t j = 0; j < sample.weight.spec.n(); ++j) {
            ASSERT_EQ(std::bit_cast<uint32_t>(batch.view()(row, j)),
                      std::bit_cast<uint32_t>(alone.view()(0, j)))
                << sample.label << " " << kernel.name << " row " << row << " column " << j;
          }
        }
      }
    }
  }
}

/// The same for every small number of rows, where kernels take them in groups of other sizes.
TEST(FormatsConformance, OutputsDoNotDependOnTheNumberOfRows) {
  constexpr int64_t kRows = 17;
  for (const CpuIsa isa : available_cpu_isas()) {
    const auto runtime = Runtime::cpu(isa, 1);
    Context& ctx = runtime->context();
    for (const LinearSample& sample : samples()) {
      const int64_t k = sample.weight.spec.k;
      const int64_t n = sample.weight.spec.n();
      const std::vector<float> x = random_rows(kRows, k, 23);
      for (const LinearKernel& kernel : sample.weight.format->cpu.kernels) {
        if (!kernel.supports(sample.weight, ctx.caps)) continue;
        std::vector<float> all;
        for (int64_t rows = kRows; rows > 0; --rows) {
          const ArenaScope scope(ctx.arena);
          std::vector<float> out(static_cast<size_t>(rows * n), std::nanf(""));
          kernel.run(ctx, sample.weight, make_input(ctx, sample.weight, x, rows),
                     View<float, 2>{out.data(), {rows, n}});
          if (rows == kRows) all = out;
          for (size_t i = 0; i < out.size(); ++i) {
            ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(all[i]))
                << sample.label << " " << kernel.name << " rows=" << rows << " at " << i;
          }
        }
      }
    }
  }
}

/// Rows of a format's input as float64, in stored order.
std::vector<double> dequantized_input(const LinearSample& sample, const Activation& input,
                                      const std::vector<float>& x) {
  std::vector<double> rows;
  if (sample.float_input) return {x.begin(), x.end()};
  const Tensor& codes = input.parts[0];
  const Tensor& scales = input.parts[1];
  if (codes.dtype() == DType::kF8E4M3) {
    for (int64_t i = 0; i < codes.num_elements(); ++i) {
      rows.push_back(double{scales.data<float>()[i / sample.stored_k]} *
                     double{to_float(codes.data<Float8E4M3>()[i])});
    }
    return rows;
  }
  const int64_t num_scales = scales.size(1);
  const bool w4ax = sample.weight.format->name == "w4ax";
  const SiteLayout& site = sample.quantized[0].site;
  for (int64_t t = 0; t < input.rows; ++t) {
    for (int64_t i = 0; i < sample.stored_k; ++i) {
      int64_t scale = w4ax && i < site.int4_channels() ? 0 : 1;
      if (w4ax && site.scale == ActScale::kS1) scale = i / kBlock;
      rows.push_back(double{scales.data<float>()[t * num_scales + scale]} *
                     codes.data<int8_t>()[t * codes.size(1) + i]);
    }
  }
  return rows;
}

TEST(FormatsConformance, ReferenceEqualsFloat64) {
  const auto runtime = Runtime::cpu(CpuIsa::kPortable, 1);
  Context& ctx = runtime->context();
  constexpr int64_t kRows = 3;
  for (const LinearSample& sample : samples()) {
    if (sample.weight.spec.has_bias) continue;
    const ArenaScope scope(ctx.arena);
    const std::vector<float> x = random_rows(kRows, sample.weight.spec.k, 3);
    const Activation input = make_input(ctx, sample.weight, x, kRows);
    const std::vector<double> rows = dequantized_input(sample, input, x);
    PoisonedOutput out(kRows, sample.weight.spec.n());
    sample.weight.format->reference_linear(sample.weight, input, out.view());
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t j = 0; j < out.columns; ++j) {
        double sum = 0;
        double scale = 1e-20;
        for (int64_t i = 0; i < sample.stored_k; ++i) {
          const double term = rows[static_cast<size_t>(t * sample.stored_k + i)] *
                              sample.dequantized[static_cast<size_t>(j * sample.stored_k + i)];
          sum += term;
          scale += std::abs(term);
        }
        ASSERT_NEAR(out.view()(t, j), sum, 2e-6 * scale) << sample.label << " column " << j;
      }
    }
  }
}

/// What quantizing the input costs: the output against that of the same weights and FP32 rows.
TEST(FormatsConformance, InputErrorIsWithinBudget) {
  const auto runtime = Runtime::cpu(CpuIsa::kPortable, 1);
  Context& ctx = runtime->context();
  constexpr int64_t kRows = 2;
  for (const LinearSample& sample : samples()) {
    const LinearWeight& weight = sample.weight;
    const bool reordered = weight.format->name == "w4ax";  // rows in stored order are not x
    if (weight.spec.has_bias || reordered || weight.spec.k < kBlock) continue;
    const ArenaScope scope(ctx.arena);
    const std::vector<float> x = random_rows(kRows, weight.spec.k, 41);
    PoisonedOutput out(kRows, weight.spec.n());
    weight.format->reference_linear(weight, make_input(ctx, weight, x, kRows), out.view());
    double error = 0;
    double size = 0;
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t j = 0; j < out.columns; ++j) {
        double want = 0;
        for (int64_t i = 0; i < sample.stored_k; ++i) {
          want += x[static_cast<size_t>(t * sample.stored_k + i)] *
                  sample.dequantized[static_cast<size_t>(j * sample.stored_k + i)];
        }
        error += std::pow(out.view()(t, j) - want, 2);
        size += want * want;
      }
    }
    EXPECT_LT(std::sqrt(error / size), sample.budget) << sample.label;
  }
}

TEST(FormatsConformance, NonFiniteRowsGiveNaNAndNoOtherRowDoes) {
  for (const CpuIsa isa : available_cpu_isas()) {
    const auto runtime = Runtime::cpu(isa, 2);
    Context& ctx = runtime->context();
    for (const LinearSample& sample : samples()) {
      if (sample.float_input) continue;
      for (const float poison : {std::nanf(""), -HUGE_VALF}) {
        const ArenaScope scope(ctx.arena);
        std::vector<float> x = random_rows(3, sample.weight.spec.k, 9);
        x[static_cast<size_t>(sample.weight.spec.k * 2 - 1)] = poison;
        const Activation input = make_input(ctx, sample.weight, x, 3);
        for (const LinearKernel& kernel : sample.weight.format->cpu.kernels) {
          if (!kernel.supports(sample.weight, ctx.caps)) continue;
          std::vector<float> out(static_cast<size_t>(3 * sample.weight.spec.n()), 1.0F);
          kernel.run(ctx, sample.weight, input,
                     View<float, 2>{out.data(), {3, sample.weight.spec.n()}});
          for (size_t i = 0; i < out.size(); ++i) {
            const bool poisoned = static_cast<int64_t>(i) / sample.weight.spec.n() == 1;
            ASSERT_EQ(std::isnan(out[i]), poisoned) << sample.label << " " << kernel.name;
          }
        }
      }
    }
  }
}

Caps caps_of(CpuIsa isa) {
  Caps caps;
  caps.cpu_isa = isa;
  return caps;
}

TEST(FormatsConformance, PlanTakesTheBestRowAndNamesWhatExists) {
  for (const LinearSample& sample : samples()) {
    LinearWeight weight = sample.weight;
    ASSERT_TRUE(plan_linear(weight, caps_of(CpuIsa::kPortable)).ok());
    EXPECT_TRUE(weight.kernel->name.ends_with("portable")) << weight.kernel->name;
    ASSERT_TRUE(plan_linear(weight, caps_of(CpuIsa::kAvx512Vnni)).ok());
    EXPECT_NE(weight.kernel->name.find("avx512"), std::string_view::npos) << weight.kernel->name;
  }
}

}  // namespace
}  // namespace comet::formats
