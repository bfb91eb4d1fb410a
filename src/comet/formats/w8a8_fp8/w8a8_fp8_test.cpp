// Every product of two codes on every kernel row, the producer against the definition, the largest
// sums, and weights that hold NaN.
#include "comet/formats/w8a8_fp8/w8a8_fp8.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "comet/base/rng.h"
#include "comet/tensor/float8.h"
#include "support/tensor_map.h"

namespace comet::formats {
namespace {

using ::comet::testing::make_tensor;
using ::comet::testing::TensorMap;

LinearSpec spec_of(int64_t n, int64_t k) {
  LinearSpec spec;
  spec.name = "layer.p_proj";
  spec.prefix = "layer.";
  spec.parts = {"p_proj"};
  spec.part_rows = {n};
  spec.k = k;
  return spec;
}

LinearWeight bind_codes(int64_t n, int64_t k, const std::vector<Float8E4M3>& codes) {
  TensorMap tensors;
  tensors.set("layer.p_proj.weight", make_tensor<Float8E4M3>({n, k}, codes));
  tensors.set("layer.p_proj.weight_scale",
              make_tensor<float>({n, 1}, std::vector<float>(static_cast<size_t>(n), 0.5F)));
  return *w8a8_fp8_format().bind(spec_of(n, k), nullptr, tensors);
}

/// All codes but NaN.
std::vector<Float8E4M3> all_codes() {
  std::vector<Float8E4M3> codes;
  for (int i = 0; i < 256; ++i) {
    if ((i & 0x7F) != 0x7F) codes.push_back({static_cast<uint8_t>(i)});
  }
  return codes;
}

TEST(W8A8Fp8, EveryProductOfTwoCodesIsExact) {
  const std::vector<Float8E4M3> codes = all_codes();
  const auto count = static_cast<int64_t>(codes.size());
  const LinearWeight weight = bind_codes(count, 1, codes);
  Activation input;
  input.rows = count;
  input.parts[w8a8_fp8::kCodes] = make_tensor<Float8E4M3>({count, 1}, codes);
  input.parts[w8a8_fp8::kScales] =
      make_tensor<float>({count}, std::vector<float>(codes.size(), 0.25F));
  for (const CpuIsa isa : available_cpu_isas()) {
    const auto runtime = Runtime::cpu(isa, 1);
    for (const LinearKernel& kernel : w8a8_fp8_format().cpu.kernels) {
      if (!kernel.supports(weight, runtime->context().caps)) continue;
      std::vector<float> out(codes.size() * codes.size(), std::nanf(""));
      kernel.run(runtime->context(), weight, input, View<float, 2>{out.data(), {count, count}});
      for (size_t x = 0; x < codes.size(); ++x) {
        for (size_t w = 0; w < codes.size(); ++w) {
          const double want = 0.125 * double{to_float(codes[x])} * double{to_float(codes[w])};
          ASSERT_EQ(double{out[x * codes.size() + w]}, want)
              << kernel.name << " " << int{codes[x].bits} << " · " << int{codes[w].bits};
        }
      }
    }
  }
}

TEST(W8A8Fp8, InputCodesAreThoseOfTheDefinition) {
  constexpr int64_t kChannels = 4100;
  const LinearWeight weight = bind_codes(1, kChannels, std::vector<Float8E4M3>(kChannels));
  Rng rng(3);
  std::vector<float> x;
  for (int64_t i = 0; i < kChannels; ++i) {
    x.push_back(std::ldexp(rng.next_normal(), -static_cast<int>(rng.next_below(24))));
  }
  float absmax = 0;
  for (const float value : x) absmax = std::max(absmax, std::fabs(value));
  for (const CpuIsa isa : available_cpu_isas()) {
    const auto runtime = Runtime::cpu(isa, 1);
    const Activation input = w8a8_fp8_format().cpu.input_from_rows(
        runtime->context(), weight, View<const float, 2>{x.data(), {1, kChannels}});
    EXPECT_EQ(input.parts[w8a8_fp8::kScales].data<float>()[0], absmax / 448.0F);
    const float r = 448.0F / absmax;
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(int{input.parts[w8a8_fp8::kCodes].data<Float8E4M3>()[i].bits},
                int{to_float8_e4m3(x[i] * r).bits})
          << x[i];
    }
  }
}

TEST(W8A8Fp8, TinyRowsAreZeroAndNonFiniteRowsNaN) {
  const LinearWeight weight = bind_codes(2, 3, std::vector<Float8E4M3>(6, Float8E4M3{0x38}));
  for (const CpuIsa isa : available_cpu_isas()) {
    const auto runtime = Runtime::cpu(isa, 1);
    Context& ctx = runtime->context();
    const std::vector<float> x{1e-38F, 0, -1e-38F, 1, HUGE_VALF, 1, 1, 2, 3};
    const Activation input =
        weight.format->cpu.input_from_rows(ctx, weight, View<const float, 2>{x.data(), {3, 3}});
    const auto* scales = input.parts[w8a8_fp8::kScales].data<float>();
    EXPECT_EQ(scales[0], 0.0F);
    EXPECT_TRUE(std::isnan(scales[1]));
    EXPECT_EQ(scales[2], 3.0F / 448.0F);
    for (size_t i = 0; i < 6; ++i) {
      EXPECT_EQ(int{input.parts[w8a8_fp8::kCodes].data<Float8E4M3>()[i].bits}, 0);
    }
  }
}

TEST(W8A8Fp8, LargestSumsStayFinite) {
  constexpr int64_t kChannels = 131072;
  const LinearWeight weight = bind_codes(1, kChannels, std::vector<Float8E4M3>(kChannels, {0xFE}));
  const std::vector<float> x(kChannels, 3e38F);
  for (const CpuIsa isa : available_cpu_isas()) {
    const auto runtime = Runtime::cpu(isa, 1);
    Context& ctx = runtime->context();
    const Activation input = weight.format->cpu.input_from_rows(
        ctx, weight, View<const float, 2>{x.data(), {1, kChannels}});
    for (const LinearKernel& kernel : weight.format->cpu.kernels) {
      if (!kernel.supports(weight, ctx.caps)) continue;
      std::vector<float> out(1);
      kernel.run(ctx, weight, input, View<float, 2>{out.data(), {1, 1}});
      // −0.5 · 448 · 131072 · 3e38 overflows FP32.
      EXPECT_EQ(out[0], -HUGE_VALF) << kernel.name;
    }
    const std::vector<float> small(kChannels, 3e28F);
    const Activation fits = weight.format->cpu.input_from_rows(
        ctx, weight, View<const float, 2>{small.data(), {1, kChannels}});
    for (const LinearKernel& kernel : weight.format->cpu.kernels) {
      if (!kernel.supports(weight, ctx.caps)) continue;
      std::vector<float> out(1);
      kernel.run(ctx, weight, fits, View<float, 2>{out.data(), {1, 1}});
      const double want = -0.5 * 448 * 131072 * 3e28;
      EXPECT_NEAR(out[0], want, 1e-5 * std::abs(want)) << kernel.name;
    }
  }
}

TEST(W8A8Fp8, BadTensorsAreErrorsThatNameThem) {
  const auto expect_error = [](const std::string& name, const std::string& suffix,
                               const Tensor& tensor) {
    TensorMap tensors;
    tensors.set("layer.p_proj.weight", make_tensor<Float8E4M3>({2, 3}, std::vector<Float8E4M3>(6)));
    tensors.set("layer.p_proj.weight_scale", make_tensor<float>({2, 1}, {1, 1}));
    tensors.set("layer.p_proj." + name, tensor);
    const auto bound = w8a8_fp8_format().bind(spec_of(2, 3), nullptr, tensors);
    ASSERT_FALSE(bound.ok()) << name;
    EXPECT_NE(bound.error().message.find("layer.p_proj." + name), std::string::npos)
        << bound.error().message;
    EXPECT_NE(bound.error().message.find(suffix), std::string::npos) << bound.error().message;
  };
  std::vector<Float8E4M3> with_nan(6);
  with_nan[4] = {0xFF};
  expect_error("weight", "NaN", make_tensor<Float8E4M3>({2, 3}, with_nan));
  expect_error("weight", "I8", make_tensor<int8_t>({2, 3}, std::vector<int8_t>(6)));
  expect_error("weight_scale", "finite", make_tensor<float>({2, 1}, {1, HUGE_VALF}));
  expect_error("weight_scale", "[2]", make_tensor<float>({2}, {1, 1}));
  expect_error("weight_zero_point", "symmetric", make_tensor<int8_t>({2, 1}, {0, 1}));
}

TEST(W8A8Fp8, ManifestIsWhatParseConfigReads) {
  for (const char* name : {"w8a8-fp8", "w8a8-int"}) {
    const WeightFormat& format = **find_weight_format(name);
    const Json config = format.manifest({});
    EXPECT_TRUE(format.parse_config(config, "config.json").ok()) << name;
    EXPECT_EQ(*find_disk_format("compressed-tensors", format.disk_format), &format);
    EXPECT_EQ(config["config_groups"]["group_0"]["input_activations"]["strategy"], "token");
    EXPECT_EQ(config["config_groups"]["group_0"]["weights"]["strategy"], "channel");
    Json bad = config;
    bad["config_groups"]["group_0"]["weights"]["num_bits"] = 6;
    const auto parsed = format.parse_config(bad, "config.json");
    ASSERT_FALSE(parsed.ok());
    EXPECT_NE(parsed.error().message.find("config.json: quantization_config.config_groups.group_0."
                                          "weights.num_bits is 6"),
              std::string::npos)
        << parsed.error().message;
  }
}

}  // namespace
}  // namespace comet::formats
