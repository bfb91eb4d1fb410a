// The largest sums of w8a8-int, on every kernel row: a stored −128, and the most channels.
#include "comet/formats/w8a8_int/w8a8_int.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/tensor_map.h"

namespace comet::formats {
namespace {

using ::comet::testing::make_tensor;
using ::comet::testing::TensorMap;

LinearWeight constant_weight(int64_t k, int8_t code, TensorMap& tensors) {
  tensors.set("lm_head.weight",
              make_tensor<int8_t>({5, k}, std::vector<int8_t>(static_cast<size_t>(5 * k), code)));
  tensors.set("lm_head.weight_scale", make_tensor<float>({5}, std::vector<float>(5, 1.0F)));
  LinearSpec spec;
  spec.name = "lm_head";
  spec.parts = {"lm_head"};
  spec.part_rows = {5};
  spec.k = k;
  return *w8a8_int_format().bind(spec, nullptr, tensors);
}

/// Two equal rows of ±127 on every kernel row that `isa` runs.
void expect_products(const LinearWeight& weight, CpuIsa isa, float x, double want) {
  const int64_t k = weight.spec.k;
  const auto runtime = Runtime::cpu(isa, 2);
  Context& ctx = runtime->context();
  const std::vector<float> rows(static_cast<size_t>(2 * k), x);
  const Activation input =
      weight.format->cpu.input_from_rows(ctx, weight, View<const float, 2>{rows.data(), {2, k}});
  for (const LinearKernel& kernel : weight.format->cpu.kernels) {
    if (!kernel.supports(weight, ctx.caps)) continue;
    std::vector<float> out(10, std::nanf(""));
    kernel.run(ctx, weight, input, View<float, 2>{out.data(), {2, 5}});
    for (const float y : out) {
      ASSERT_NEAR(y, want, std::abs(want) * 1e-6) << kernel.name << " k=" << k;
    }
  }
}

TEST(W8A8Int, LargestCodesOfBothSigns) {
  for (const int64_t k : {1, 63, 128, 131072}) {
    for (const int code : {-128, 127}) {
      TensorMap tensors;
      const LinearWeight weight = constant_weight(k, static_cast<int8_t>(code), tensors);
      for (const CpuIsa isa : available_cpu_isas()) {
        for (const float x : {127.0F, -127.0F}) {
          expect_products(weight, isa, x, double{x} * code * static_cast<double>(k));
        }
      }
    }
  }
}

TEST(W8A8Int, TooManyChannelsAreAnError) {
  LinearSpec spec;
  spec.name = "lm_head";
  spec.parts = {"lm_head"};
  spec.part_rows = {1};
  spec.k = 131073;
  EXPECT_FALSE(w8a8_int_format().bind(spec, nullptr, TensorMap()).ok());
}

}  // namespace
}  // namespace comet::formats
