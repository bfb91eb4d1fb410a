#include "comet/kv/kv4/kv4.h"

#include <gtest/gtest.h>

#include "comet/kv/kv16/kv16.h"
#include "comet/kv/ragged_case.h"

namespace comet::kv {
namespace {

/// FP16 next to x from below (above), found by stepping from the nearest one.
float f16_below(float x) {
  uint16_t bits = to_float16(x).bits;
  while (to_float(Float16{bits}) > x)
    bits = bits == 0 ? 0x8001 : (bits & 0x8000) ? bits + 1 : bits - 1;
  return to_float(Float16{bits});
}
float f16_above(float x) {
  uint16_t bits = to_float16(x).bits;
  while (to_float(Float16{bits}) < x) ++bits;
  return to_float(Float16{bits});
}

/// What docs/formats.md §3 says a row reads back as.
std::vector<float> reference_row(const std::vector<float>& x) {
  const float low = *std::min_element(x.begin(), x.end());
  const float high = *std::max_element(x.begin(), x.end());
  const float m = std::max(f16_below(low), -65504.0F);
  const float s = std::min(f16_above((high - m) / 15.0F), 65504.0F);
  std::vector<float> out;
  for (const float value : x) {
    const float u =
        s == 0.0F ? 0.0F : std::min(std::max(std::nearbyint((value - m) / s), 0.0F), 15.0F);
    out.push_back(s * u + m);
  }
  return out;
}

/// Appends one token per row of `x` (its V too) with one KV head; the page bytes.
std::vector<std::byte> encode(CpuIsa isa, const std::vector<std::vector<float>>& x,
                              int64_t& saturated, std::vector<std::vector<float>>* decoded) {
  const auto len = static_cast<int32_t>(x.size());
  const auto dim = static_cast<int64_t>(x[0].size());
  RaggedCase c({{0, len}}, 1, 1, dim, 1);
  for (int32_t i = 0; i < len; ++i) {
    std::copy(x[i].begin(), x[i].end(), c.k[0].begin() + i * dim);
    std::copy(x[i].begin(), x[i].end(), c.v[0].begin() + i * dim);
  }
  CaseRunner runner(kv4_format(), c);
  saturated = runner.step(Runtime::cpu(isa, 2)->context(), {0}, {len}, nullptr);
  std::vector<std::vector<float>> k, v;
  runner.gather(k, v);
  if (decoded != nullptr) {
    for (int32_t i = 0; i < len; ++i)
      decoded->emplace_back(k[0].begin() + i * dim, k[0].begin() + (i + 1) * dim);
  }
  return {runner.pages(), runner.pages() + runner.num_bytes()};
}

TEST(Kv4, RowsReadBackAsTheDefinitionSays) {
  Rng rng(3);
  for (const int64_t dim : {2, 6, 34, 64, 80, 128, 130, 512}) {
    std::vector<std::vector<float>> x;
    for (int row = 0; row < 70; ++row) {
      const float spread = std::exp2(static_cast<float>(row % 35) - 23.0F);
      const float shift = row % 3 == 0 ? 0.0F : spread * 3.0F * rng.next_normal();
      x.emplace_back();
      for (int64_t i = 0; i < dim; ++i) x.back().push_back(shift + spread * rng.next_normal());
    }
    x.emplace_back(dim, 0.0F);
    x.emplace_back(dim, -0.0F);
    x.emplace_back(dim, 1.0F);    // exact in FP16: s = 0
    x.emplace_back(dim, 0.1F);    // not exact: s > 0
    x.emplace_back(dim, 1e-30F);  // below FP16's subnormals
    x.emplace_back(dim, -1e-30F);
    x.back()[0] = 0.0F;
    int64_t saturated = -1;
    std::vector<std::vector<float>> decoded;
    const auto portable = encode(CpuIsa::kPortable, x, saturated, &decoded);
    EXPECT_EQ(saturated, 0);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(decoded[i], reference_row(x[i])) << i;
    for (const CpuIsa isa : available_cpu_isas())
      EXPECT_EQ(encode(isa, x, saturated, nullptr), portable) << cpu_isa_name(isa);
  }
}

TEST(Kv4, SignsOfZeroDoNotChangeThePage) {
  std::vector<std::vector<float>> x(1, std::vector<float>(64, 0.0F));
  for (size_t i = 0; i < 64; i += 3) x[0][i] = -0.0F;
  int64_t saturated = 0;
  const auto portable = encode(CpuIsa::kPortable, x, saturated, nullptr);
  for (const CpuIsa isa : available_cpu_isas())
    EXPECT_EQ(encode(isa, x, saturated, nullptr), portable) << cpu_isa_name(isa);
}

TEST(Kv4, SaturationIsCountedAndNonFiniteRowsReadAsNaN) {
  const int64_t dim = 64;
  std::vector<std::vector<float>> x(6, std::vector<float>(dim, 1.0F));
  x[0][5] = -70000.0F;  // minimum below FP16
  x[1][5] = 2e6F;       // scale above FP16
  x[2][63] = NAN;
  x[3][0] = INFINITY;
  x[4][17] = -INFINITY;
  for (const CpuIsa isa : available_cpu_isas()) {
    int64_t saturated = 0;
    std::vector<std::vector<float>> decoded;
    encode(isa, x, saturated, &decoded);
    EXPECT_EQ(saturated, 4) << cpu_isa_name(isa);  // two rows, each as K and as V
    EXPECT_EQ(decoded[0], reference_row(x[0]));
    EXPECT_EQ(decoded[1], reference_row(x[1]));
    for (const int row : {2, 3, 4}) {
      for (const float value : decoded[row]) EXPECT_TRUE(std::isnan(value));
    }
    EXPECT_EQ(decoded[5], x[5]);
  }
}

TEST(Kv4, TakesSixtyEightBytesPer128Values) {
  EXPECT_EQ(kv4_format().page_bytes({8, 128}), kPageTokens * 8 * 2 * 68);
  EXPECT_EQ(kv4_format().page_bytes({2, 64}), kPageTokens * 2 * 2 * 36);
  EXPECT_EQ(kv4_format().page_bytes({3, 6}) % 64, 0);
}

TEST(Kv16, RowsAreBFloat16RoundedToEven) {
  const RaggedCase c({{0, 50}, {0, 3}}, 2, 2, 70, 8);
  std::vector<std::byte> portable;
  for (const CpuIsa isa : available_cpu_isas()) {
    CaseRunner runner(kv16_format(), c);
    runner.run(Runtime::cpu(isa, 1)->context());
    std::vector<std::vector<float>> k, v;
    runner.gather(k, v);
    for (size_t s = 0; s < c.seqs.size(); ++s) {
      for (size_t i = 0; i < k[s].size(); ++i) {
        ASSERT_EQ(k[s][i], to_float(to_bfloat16(c.k[s][i])));
        ASSERT_EQ(v[s][i], to_float(to_bfloat16(c.v[s][i])));
      }
    }
  }
}

}  // namespace
}  // namespace comet::kv
