// Codes against the definition (docs/formats.md §1, §2.4) written out a second time, and the float
// test: the permuted and rotated product equals the original.
#include <gtest/gtest.h>

#include <cmath>

#include "comet/formats/w4ax/w4ax.h"
#include "support/linear_samples.h"

namespace comet::formats::w4ax {
namespace {

using ::comet::testing::bind_w4ax;
using ::comet::testing::random_w4ax;
using ::comet::testing::TensorMap;
using ::comet::testing::W4axShape;

/// Stored row before quantization: gathered, INT4 blocks rotated stage by stage.
std::vector<float> stored_row(const SiteLayout& site, const float* x) {
  std::vector<float> row;
  for (int64_t i = 0; i < site.k_padded; ++i) {
    const int64_t source = site.perm.empty() ? (i < site.k ? i : -1) : site.perm[i];
    row.push_back(source < 0 ? 0.0F : x[source]);
  }
  if (site.scale != ActScale::kS2h) return row;
  for (int64_t begin = 0; begin < site.int4_channels(); begin += 128) {
    for (int64_t stride = 1; stride < 128; stride *= 2) {
      for (int64_t i = begin; i < begin + 128; ++i) {
        if (((i - begin) / stride) % 2 != 0) continue;
        const float a = row[i];
        const float b = row[i + stride];
        row[i] = a + b;
        row[i + stride] = a - b;
      }
    }
    for (int64_t i = begin; i < begin + 128; ++i) {
      row[i] *= static_cast<float>(1.0 / std::sqrt(128.0));
    }
  }
  return row;
}

struct Codes {
  std::vector<int> codes;
  std::vector<float> scales;
};

void quantize_span(const std::vector<float>& row, int64_t begin, int64_t end, int limit, float clip,
                   Codes& out) {
  float top = 0;
  bool finite = true;
  for (int64_t i = begin; i < end; ++i) {
    finite = finite && std::isfinite(row[i]);
    top = std::fmax(top, std::fabs(row[i]));
  }
  const float a = limit == 7 ? clip * top : top;
  const bool zero = a < std::ldexp(1.0F, -100);
  const float r = static_cast<float>(limit) / a;
  for (int64_t i = begin; i < end; ++i) {
    const float q = std::nearbyint(row[i] * r);
    out.codes.push_back(!finite || zero ? 0
                                        : static_cast<int>(std::fmin(std::fmax(q, -limit), limit)));
  }
  out.scales.push_back(!finite ? std::nanf("") : zero ? 0.0F : a / static_cast<float>(limit));
}

Codes expected_codes(const SiteLayout& site, const float* x) {
  const std::vector<float> row = stored_row(site, x);
  const int64_t border = site.int4_channels();
  Codes out;
  if (site.scale == ActScale::kS1) {
    for (int64_t b = 0; b < site.k_padded; b += 128) {
      quantize_span(row, b, b + 128, b < border ? 7 : 127, site.clip, out);
    }
  } else {
    quantize_span(row, 0, border, 7, site.clip, out);
    quantize_span(row, border, site.k_padded, 127, 1.0F, out);
  }
  return out;
}

void expect_codes(const Activation& input, const SiteLayout& site, const std::vector<float>& x,
                  const std::string& what) {
  for (int64_t row = 0; row < input.rows; ++row) {
    const Codes want = expected_codes(site, x.data() + row * site.k);
    const int8_t* codes = input.parts[kCodes].data<int8_t>() + row * site.k_padded;
    for (int64_t i = 0; i < site.k_padded; ++i) {
      ASSERT_EQ(codes[i], want.codes[i]) << what << " row " << row << " position " << i;
    }
    const int64_t num_scales = input.parts[kScales].size(1);
    ASSERT_EQ(num_scales, static_cast<int64_t>(want.scales.size()));
    for (int64_t i = 0; i < num_scales; ++i) {
      const float got = input.parts[kScales].data<float>()[row * num_scales + i];
      ASSERT_TRUE(got == want.scales[i] || (std::isnan(got) && std::isnan(want.scales[i])))
          << what << " row " << row << " scale " << i << ": " << got << " for " << want.scales[i];
    }
    for (int64_t b = 0; b < site.num_blocks(); ++b) {
      int sum = 0;
      for (int64_t i = 0; i < 128; ++i) sum += want.codes[b * 128 + i];
      ASSERT_EQ(input.parts[kBlockSums].data<int32_t>()[row * site.num_blocks() + b], sum) << what;
    }
  }
}

/// Ordinary rows, then zeros, tiny, subnormal, huge, ties, an outlier, an infinity and a NaN.
std::vector<float> difficult_rows(int64_t k) {
  std::vector<float> x;
  Rng rng(17);
  const auto add_row = [&](auto&& value) {
    for (int64_t i = 0; i < k; ++i) x.push_back(value(i));
  };
  for (int i = 0; i < 3; ++i) add_row([&](int64_t) { return rng.next_normal(); });
  add_row([](int64_t) { return 0.0F; });
  add_row([&](int64_t) { return rng.next_normal() * 0x1p-98F; });
  add_row([&](int64_t) { return rng.next_normal() * 0x1p-130F; });
  add_row([&](int64_t) { return rng.next_uniform() * 1e37F; });
  add_row([](int64_t i) { return static_cast<float>(i % 15 - 7) * 0.5F; });  // ties of A4
  add_row([](int64_t i) { return static_cast<float>(i % 509 - 254) * 0.5F; });
  add_row([&](int64_t i) { return i == k / 2 ? 1e4F : rng.next_normal(); });
  add_row([&](int64_t i) { return i == k - 1 ? -HUGE_VALF : rng.next_normal(); });
  add_row([&](int64_t i) { return i == 0 ? std::nanf("") : rng.next_normal(); });
  add_row([](int64_t) { return 3e38F; });  // overflows to infinity when rotated
  return x;
}

TEST(Producer, CodesEqualTheDefinitionOnEveryInstructionSet) {
  for (const ActScale scale : {ActScale::kS1, ActScale::kS2, ActScale::kS2h}) {
    for (const int64_t int8_blocks : {0, 1, 3}) {
      for (const float clip : {0.7F, 1.0F}) {
        const QuantizedWeight weight = random_w4ax({.part_rows = {4},
                                                    .k = 301,
                                                    .int8_blocks = int8_blocks,
                                                    .scale = scale,
                                                    .permuted = int8_blocks != 3,
                                                    .clip = clip},
                                                   3);
        TensorMap tensors;
        const LinearWeight bound = bind_w4ax(weight, tensors);
        const std::vector<float> x = difficult_rows(301);
        for (const CpuIsa isa : available_cpu_isas()) {
          const auto runtime = Runtime::cpu(isa, 2);
          Context& ctx = runtime->context();
          const Activation input = input_from_rows(
              ctx, bound,
              View<const float, 2>{x.data(), {static_cast<int64_t>(x.size()) / 301, 301}});
          expect_codes(input, weight.site, x,
                       fmt::format("{} {} int8={} clip={}", cpu_isa_name(isa),
                                   act_scale_name(scale), int8_blocks, clip));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

/// Input rows may lie apart: a part of a fused output.
TEST(Producer, RowsMayHaveAStride) {
  const QuantizedWeight weight = random_w4ax({.part_rows = {4}, .k = 130}, 3);
  TensorMap tensors;
  const LinearWeight bound = bind_w4ax(weight, tensors);
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  std::vector<float> spread(3 * 200, std::nanf(""));
  std::vector<float> x;
  Rng rng(2);
  for (int64_t i = 0; i < 3 * 130; ++i) {
    x.push_back(rng.next_normal());
    spread[static_cast<size_t>(i / 130 * 200 + i % 130)] = x.back();
  }
  const Activation input = input_from_rows(runtime->context(), bound,
                                           View<const float, 2>{spread.data(), {3, 130}, {200, 1}});
  expect_codes(input, weight.site, x, "strided");
}

/// A code may differ by one where norm or SiLU round otherwise, in at most 0.1 % of values.
void expect_close(const Activation& got, const Activation& want) {
  const Tensor& a = got.parts[kCodes];
  const Tensor& b = want.parts[kCodes];
  int64_t differ = 0;
  for (int64_t i = 0; i < a.num_elements(); ++i) {
    const int delta = std::abs(a.data<int8_t>()[i] - b.data<int8_t>()[i]);
    ASSERT_LE(delta, 1);
    differ += delta;
  }
  EXPECT_LE(differ * 1000, a.num_elements());
}

TEST(Producer, NormAndSiluMulEqualTheirDefinitions) {
  constexpr int64_t kRows = 8;
  constexpr int64_t kChannels = 1000;
  const QuantizedWeight weight =
      random_w4ax({.part_rows = {4}, .k = kChannels, .int8_blocks = 2, .scale = ActScale::kS2h}, 3);
  TensorMap tensors;
  const LinearWeight bound = bind_w4ax(weight, tensors);
  Rng rng(5);
  std::vector<float> x;
  std::vector<float> up;
  std::vector<float> gamma;
  for (int64_t i = 0; i < kRows * kChannels; ++i) {
    x.push_back(rng.next_normal());
    up.push_back(rng.next_normal());
  }
  for (int64_t i = 0; i < kChannels; ++i) gamma.push_back(1.0F + 0.1F * rng.next_normal());
  std::vector<float> normed;
  std::vector<float> gated;
  for (int64_t row = 0; row < kRows; ++row) {
    double sum = 0;
    for (int64_t i = 0; i < kChannels; ++i) sum += std::pow(double{x[row * kChannels + i]}, 2);
    for (int64_t i = 0; i < kChannels; ++i) {
      const double value = x[row * kChannels + i];
      normed.push_back(static_cast<float>(value / std::sqrt(sum / kChannels + 1e-5) * gamma[i]));
      gated.push_back(static_cast<float>(value / (1 + std::exp(-value)) * up[row * kChannels + i]));
    }
  }
  for (const CpuIsa isa : available_cpu_isas()) {
    const auto runtime = Runtime::cpu(isa, 2);
    Context& ctx = runtime->context();
    const View<float, 2> rows(x.data(), {kRows, kChannels});
    expect_close(
        input_from_norm(ctx, bound, {rows, {gamma.data(), {kChannels}}, 1e-5F, {}}),
        input_from_rows(ctx, bound, View<const float, 2>{normed.data(), {kRows, kChannels}}));
    expect_close(
        input_from_silu_mul(ctx, bound,
                            {rows, View<const float, 2>{up.data(), {kRows, kChannels}}}),
        input_from_rows(ctx, bound, View<const float, 2>{gated.data(), {kRows, kChannels}}));
  }
}

/// Σ over stored channels of (gathered, rotated x) · (gathered, rotated w) = x · w.
TEST(Producer, PermutingAndRotatingBothSidesKeepsTheProduct) {
  for (const ActScale scale : {ActScale::kS2, ActScale::kS2h}) {
    const QuantizedWeight weight =
        random_w4ax({.part_rows = {1}, .k = 700, .int8_blocks = 1, .scale = scale}, 12);
    Rng rng(4);
    std::vector<float> x;
    std::vector<float> w;
    double want = 0;
    for (int64_t i = 0; i < 700; ++i) {
      x.push_back(rng.next_normal());
      w.push_back(rng.next_normal());
      want += double{x.back()} * w.back();
    }
    const std::vector<float> stored_x = stored_row(weight.site, x.data());
    const std::vector<float> stored_w = stored_row(weight.site, w.data());
    double got = 0;
    for (size_t i = 0; i < stored_x.size(); ++i) got += double{stored_x[i]} * stored_w[i];
    EXPECT_NEAR(got, want, 1e-4);
  }
}

}  // namespace
}  // namespace comet::formats::w4ax
