// Codes of kv8_fp8 against the tensor room's E4M3, on every code and around every rounding border,
// and a cache with scales against one that is given the scaled rows.
#include "comet/kv/kv8_fp8/kv8_fp8.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "comet/kv/cache_driver.h"
#include "comet/kv/kv_cache.h"
#include "comet/kv/ragged_case.h"
#include "comet/tensor/float8.h"

namespace comet::kv {
namespace {

TEST(Kv8Fp8, CodesAreThoseOfE4M3) {
  std::vector<float> values{0.0F, -0.0F, 1e9F, -HUGE_VALF, std::nanf(""), 463.9F};
  for (int code = 0; code < 0x7F; ++code) {
    const float value = to_float(Float8E4M3{static_cast<uint8_t>(code)});
    const float next = to_float(Float8E4M3{static_cast<uint8_t>(std::min(code + 1, 0x7E))});
    const float middle = (value + next) / 2;
    for (const float x :
         {value, middle, std::nextafter(middle, 0.0F), std::nextafter(middle, 1e9F)}) {
      values.push_back(x);
      values.push_back(-x);
    }
  }
  const auto head_dim = static_cast<int64_t>(values.size());
  std::vector<uint8_t> part(static_cast<size_t>(kTileTokens * head_dim));
  for (const CpuIsa isa : available_cpu_isas()) {
    const KvKernels& kernels = kv_kernels(isa).kv8_fp8;
    EXPECT_EQ(kernels.encode_row(part.data(), 1, values.data(), head_dim), 1);
    std::vector<float> decoded(static_cast<size_t>(2 * head_dim));
    kernels.decode_rows(decoded.data(), head_dim, part.data(), 2, head_dim);
    for (size_t i = 0; i < values.size(); ++i) {
      const uint8_t code = part[static_cast<size_t>(head_dim) + i];
      const float got = decoded[static_cast<size_t>(head_dim) + i];
      if (std::isnan(values[i])) {
        EXPECT_TRUE(std::isnan(got));
        continue;
      }
      EXPECT_EQ(code, to_float8_e4m3(values[i]).bits) << values[i];
      EXPECT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(to_float(Float8E4M3{code})));
    }
  }
}

TEST(Kv8Fp8, TakesAByteAValueAndHasNoWindow) {
  EXPECT_EQ(kv8_fp8_format().page_bytes({2, 64}), 2 * 2 * kPageTokens * 64);
  EXPECT_EQ(*find_kv_format("kv8_fp8"), &kv8_fp8_format());
}

}  // namespace
}  // namespace comet::kv
