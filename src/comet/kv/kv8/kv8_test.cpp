#include "comet/kv/kv8/kv8.h"

#include <gtest/gtest.h>

#include "comet/kv/ragged_case.h"

namespace comet::kv {
namespace {

/// What docs/formats.md §3 says a row reads back as.
std::vector<float> reference_row(const std::vector<float>& x) {
  float absmax = 0;
  for (const float value : x) absmax = std::max(absmax, std::abs(value));
  uint16_t bits = to_float16(absmax / 127.0F).bits;
  while (to_float(Float16{bits}) < absmax / 127.0F) ++bits;
  const float s = std::min(to_float(Float16{bits}), 65504.0F);
  std::vector<float> out;
  for (const float value : x) {
    const float q =
        s == 0.0F ? 0.0F : std::min(std::max(std::nearbyint(value / s), -127.0F), 127.0F);
    out.push_back(s * q);
  }
  return out;
}

struct Encoded {
  std::vector<std::byte> pages;
  std::vector<std::vector<float>> rows;
  int64_t num_saturated = 0;
};

/// One token per row of `x` (its V too) with one KV head.
Encoded encode(CpuIsa isa, const std::vector<std::vector<float>>& x) {
  const auto len = static_cast<int32_t>(x.size());
  const auto dim = static_cast<int64_t>(x[0].size());
  RaggedCase c({{0, len}}, 1, 1, dim, 1);
  for (int32_t i = 0; i < len; ++i) {
    std::copy(x[i].begin(), x[i].end(), c.k[0].begin() + i * dim);
    std::copy(x[i].begin(), x[i].end(), c.v[0].begin() + i * dim);
  }
  CaseRunner runner(kv8_format(), c);
  Encoded encoded;
  encoded.num_saturated = runner.step(Runtime::cpu(isa, 2)->context(), {0}, {len}, nullptr);
  std::vector<std::vector<float>> k, v;
  runner.gather(k, v);
  EXPECT_EQ(std::memcmp(k[0].data(), v[0].data(), k[0].size() * sizeof(float)), 0);
  for (int32_t i = 0; i < len; ++i)
    encoded.rows.emplace_back(k[0].begin() + i * dim, k[0].begin() + (i + 1) * dim);
  encoded.pages = {runner.pages(), runner.pages() + runner.num_bytes()};
  return encoded;
}

TEST(Kv8, RowsReadBackAsTheDefinitionSays) {
  Rng rng(3);
  for (const int64_t dim : {2, 6, 34, 64, 80, 128, 130, 512}) {
    std::vector<std::vector<float>> x;
    for (int row = 0; row < 70; ++row) {
      const float spread = std::exp2(static_cast<float>(row % 35) - 23.0F);
      x.emplace_back();
      for (int64_t i = 0; i < dim; ++i) x.back().push_back(spread * rng.next_normal());
    }
    x.emplace_back(dim, 0.0F);
    x.emplace_back(dim, -0.0F);
    x.emplace_back(dim, 0.1F);
    x.emplace_back(dim, -1.0F);
    x.emplace_back(dim, 1e-30F);  // below FP16's subnormals
    x.emplace_back(dim, 1e-44F);  // absmax/127 is 0 in FP32
    x.emplace_back(dim, -3e-44F);
    x.back()[0] = 0.0F;
    const Encoded portable = encode(CpuIsa::kPortable, x);
    EXPECT_EQ(portable.num_saturated, 0);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(portable.rows[i], reference_row(x[i])) << i;
    for (const CpuIsa isa : available_cpu_isas())
      EXPECT_EQ(encode(isa, x).pages, portable.pages) << cpu_isa_name(isa);
  }
}

TEST(Kv8, TiesGoToEvenAndExtremesReach127) {
  std::vector<float> x{127.0F, -127.0F, 0.5F, 1.5F, -0.5F, -2.5F, 63.5F, 0.0F};  // s = 1
  const std::vector<float> expected{127.0F, -127.0F, 0.0F, 2.0F, 0.0F, -2.0F, 64.0F, 0.0F};
  for (const CpuIsa isa : available_cpu_isas()) EXPECT_EQ(encode(isa, {x}).rows[0], expected);
}

TEST(Kv8, SaturationIsCountedAndNonFiniteRowsReadAsNaN) {
  const int64_t dim = 64;
  std::vector<std::vector<float>> x(5, std::vector<float>(dim, 127.0F));
  x[0][5] = -9e6F;  // scale above FP16
  x[1][63] = NAN;
  x[2][0] = INFINITY;
  x[3][17] = -INFINITY;
  for (const CpuIsa isa : available_cpu_isas()) {
    const Encoded encoded = encode(isa, x);
    EXPECT_EQ(encoded.num_saturated, 2) << cpu_isa_name(isa);  // one row, as K and as V
    EXPECT_EQ(encoded.rows[0], reference_row(x[0]));
    for (const int row : {1, 2, 3}) {
      for (const float value : encoded.rows[row]) EXPECT_TRUE(std::isnan(value));
    }
    EXPECT_EQ(encoded.rows[4], x[4]);
  }
}

TEST(Kv8, TakesHeadDimPlusTwoBytesARow) {
  EXPECT_EQ(kv8_format().page_bytes({8, 128}), kPageTokens * 8 * 2 * 130);
  EXPECT_EQ(kv8_format().page_bytes({2, 64}), kPageTokens * 2 * 2 * 66);
  EXPECT_EQ(kv8_format().page_bytes({3, 6}) % 64, 0);
}

}  // namespace
}  // namespace comet::kv
