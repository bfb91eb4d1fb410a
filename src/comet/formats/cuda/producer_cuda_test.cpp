// Producers on CUDA: codes of given rows equal the definition's bit for bit; after a norm or SiLU
// they may differ by 1 in at most 0.1 % of values. Rows beyond shared memory, odd sizes, strides.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "comet/base/rng.h"
#include "comet/formats/cpu/quantize_row.h"
#include "comet/formats/cuda/producer_test_data.h"
#include "comet/tensor/float8.h"
#include "support/gpu.h"

namespace comet::formats::cuda {
namespace {

using ::comet::testing::DeviceArray;
using ::comet::testing::open_gpu;

constexpr int64_t kRows = 5;

/// Gaussian rows that BF16 represents; the second of zeros, the third with an outlier.
std::vector<float> sample_rows(int64_t k, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> x(static_cast<size_t>(kRows * k));
  for (float& value : x) value = to_float(to_bfloat16(rng.next_normal()));
  std::fill_n(x.begin() + k, k, 0.0F);
  x[static_cast<size_t>(2 * k + k / 2)] = 1024.0F;
  return x;
}

/// `stride` elements from row to row, NaN between them.
template <typename T>
std::vector<T> spread(const std::vector<float>& x, int64_t k, int64_t stride) {
  std::vector<T> out(static_cast<size_t>(kRows * stride));
  std::memset(static_cast<void*>(out.data()), 0xFF, out.size() * sizeof(T));
  for (int64_t i = 0; i < kRows * k; ++i) {
    const float value = x[static_cast<size_t>(i)];
    T& slot = out[static_cast<size_t>(i / k * stride + i % k)];
    if constexpr (std::is_same_v<T, float>) {
      slot = value;
    } else {
      slot = to_bfloat16(value);
    }
  }
  return out;
}

struct Codes {
  std::vector<int8_t> codes;
  std::vector<float> scales;
};

/// A source on the device and its rows as FP32.
struct Rows {
  RowSource source;
  std::vector<float> values;  // [kRows, k] on the host
  std::vector<std::shared_ptr<DeviceArray<float>>> floats;
  std::vector<std::shared_ptr<DeviceArray<BFloat16>>> halves;

  FloatRows put_floats(const std::vector<float>& x, int64_t k, int64_t stride) {
    floats.push_back(std::make_shared<DeviceArray<float>>(spread<float>(x, k, stride)));
    return {floats.back()->get(), stride, FloatType::kF32};
  }
  FloatRows put_halves(const std::vector<float>& x, int64_t k, int64_t stride) {
    halves.push_back(std::make_shared<DeviceArray<BFloat16>>(spread<BFloat16>(x, k, stride)));
    return {halves.back()->get(), stride, FloatType::kBf16};
  }
};

Rows given_rows(int64_t k, int64_t stride, FloatType type) {
  Rows rows;
  rows.values = sample_rows(k, 5);
  rows.source.rows = kRows;
  rows.source.k = k;
  rows.source.x = type == FloatType::kF32 ? rows.put_floats(rows.values, k, stride)
                                          : rows.put_halves(rows.values, k, stride);
  return rows;
}

/// `values` become the norm's, computed in double.
Rows normed_rows(int64_t k, int64_t stride, bool has_delta, FloatType delta_type) {
  Rows rows;
  std::vector<float> x = sample_rows(k, 6);
  const std::vector<float> delta = sample_rows(k, 7);
  std::vector<float> weight(static_cast<size_t>(k));
  Rng rng(8);
  for (float& w : weight) w = 0.5F + rng.next_uniform();
  rows.source.kind = SourceKind::kNorm;
  rows.source.rows = kRows;
  rows.source.k = k;
  rows.source.eps = 1e-5F;
  rows.source.x = rows.put_floats(x, k, stride);
  if (has_delta) {
    rows.source.other = delta_type == FloatType::kF32 ? rows.put_floats(delta, k, stride)
                                                      : rows.put_halves(delta, k, stride);
    for (size_t i = 0; i < x.size(); ++i) x[i] += delta[i];
  }
  rows.floats.push_back(std::make_shared<DeviceArray<float>>(weight));
  rows.source.weight = rows.floats.back()->get();
  for (int64_t r = 0; r < kRows; ++r) {
    double sum = 0;
    for (int64_t i = 0; i < k; ++i) sum += std::pow(x[static_cast<size_t>(r * k + i)], 2);
    const double factor = 1 / std::sqrt(sum / static_cast<double>(k) + double{1e-5F});
    for (int64_t i = 0; i < k; ++i) {
      rows.values.push_back(static_cast<float>(x[static_cast<size_t>(r * k + i)] * factor *
                                               weight[static_cast<size_t>(i)]));
    }
  }
  return rows;
}

Rows gated_rows(int64_t k, int64_t stride) {
  Rows rows;
  const std::vector<float> gate = sample_rows(k, 9);
  const std::vector<float> up = sample_rows(k, 10);
  rows.source.kind = SourceKind::kSiluMul;
  rows.source.rows = kRows;
  rows.source.k = k;
  rows.source.x = rows.put_halves(gate, k, stride);
  rows.source.other = rows.put_halves(up, k, stride);
  for (size_t i = 0; i < gate.size(); ++i) {
    rows.values.push_back(
        static_cast<float>(gate[i] / (1 + std::exp(-double{gate[i]})) * double{up[i]}));
  }
  return rows;
}

// ---- The sinks, on both sides

Codes expected_blocks(const Rows& rows, const BlockCase& c, const std::vector<int32_t>& perm) {
  const int64_t k = rows.source.k;
  formats::cpu::RowPlan plan;
  plan.perm = c.permuted ? perm.data() : nullptr;
  plan.k = k;
  plan.blocks = (k + 127) / 128;
  plan.int4_blocks = plan.blocks - c.int8_blocks;
  plan.clip = kClip;
  plan.scale = static_cast<formats::cpu::RowScale>(c.scale);
  const int64_t num_scales = c.scale == BlockScale::kBlock ? plan.blocks : 2;
  Codes want{std::vector<int8_t>(static_cast<size_t>(kRows * plan.blocks * 128)),
             std::vector<float>(static_cast<size_t>(kRows * num_scales))};
  std::vector<float> scratch(static_cast<size_t>(plan.blocks * 128));
  std::vector<int32_t> sums(static_cast<size_t>(plan.blocks));
  for (int64_t r = 0; r < kRows; ++r) {
    formats::cpu::quantize_row_portable(plan, rows.values.data() + r * k, scratch.data(),
                                        {want.codes.data() + r * plan.blocks * 128,
                                         want.scales.data() + r * num_scales, sums.data()});
  }
  return want;
}

Codes produced_blocks(const Rows& rows, const BlockCase& c, const std::vector<int32_t>& perm) {
  const int64_t blocks = (rows.source.k + 127) / 128;
  const int64_t num_scales = c.scale == BlockScale::kBlock ? blocks : 2;
  const DeviceArray<int8_t> codes(static_cast<size_t>(kRows * blocks * 128));
  const DeviceArray<float> scales(static_cast<size_t>(kRows * num_scales));
  const DeviceArray<int32_t> device_perm(perm);
  produce_w4ax(rows.source,
               block_sink(c, rows.source.k, codes.get(), scales.get(), device_perm.get()), nullptr);
  return {codes.to_host(), scales.to_host()};
}

/// Values that differ by 1 at most in `share` of the codes; scales within 2⁻²⁰ (share 0: equal).
void expect_close(const Codes& got, const Codes& want, double share, const std::string& what) {
  ASSERT_EQ(got.codes.size(), want.codes.size()) << what;
  for (size_t i = 0; i < want.scales.size(); ++i) {
    const double tolerance = share == 0 ? 0 : std::abs(double{want.scales[i]}) * 0x1p-20;
    ASSERT_NEAR(got.scales[i], want.scales[i], tolerance) << what << " scale " << i;
  }
  size_t num_different = 0;
  for (size_t i = 0; i < want.codes.size(); ++i) {
    const int difference = std::abs(got.codes[i] - want.codes[i]);
    ASSERT_LE(difference, share == 0 ? 0 : 1)
        << what << " code " << i << ": " << int{got.codes[i]} << " for " << int{want.codes[i]};
    num_different += difference != 0 ? 1 : 0;
  }
  EXPECT_LE(static_cast<double>(num_different),
            share * static_cast<double>(want.codes.size()) + (share > 0 ? 1 : 0))
      << what;
}

void check_blocks(const Rows& rows, double share, const std::string& what) {
  const int64_t blocks = (rows.source.k + 127) / 128;
  const std::vector<int32_t> perm = random_perm(rows.source.k, blocks * 128);
  for (const BlockScale scale :
       {BlockScale::kBlock, BlockScale::kSegment, BlockScale::kSegmentRotated}) {
    for (const int64_t int8_blocks : {int64_t{0}, int64_t{1}, blocks}) {
      for (const bool permuted : {false, true}) {
        const BlockCase c{scale, int8_blocks, permuted};
        expect_close(produced_blocks(rows, c, perm), expected_blocks(rows, c, perm), share,
                     fmt::format("{} k={} scale={} int8={} permuted={}", what, rows.source.k,
                                 static_cast<int>(scale), int8_blocks, permuted));
        if (::testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(ProducerCuda, BlockCodesOfGivenRowsAreTheCpus) {
  if (!open_gpu()) GTEST_SKIP() << "no GPU";
  for (const int64_t k : {1, 100, 300, 384, 4096, 14336, 57344, 131072}) {
    for (const FloatType type : {FloatType::kF32, FloatType::kBf16}) {
      check_blocks(given_rows(k, k, type), 0, "rows");
      check_blocks(given_rows(k, k + 8, type), 0, "strided rows");
      if (HasFatalFailure()) return;
    }
  }
  check_blocks(given_rows(384, 387, FloatType::kBf16), 0, "odd stride");
}

TEST(ProducerCuda, BlockCodesAfterNormAndSilu) {
  if (!open_gpu()) GTEST_SKIP() << "no GPU";
  for (const int64_t k : {100, 384, 4096, 14336, 70000}) {
    check_blocks(normed_rows(k, k, false, FloatType::kF32), 1e-3, "norm");
    check_blocks(gated_rows(k, 2 * k), 1e-3, "silu");
    if (HasFatalFailure()) return;
  }
}

/// BF16 rows of gate and up are made by clusters (sm_90), the same numbers as F32 by a CTA a row.
void check_clusters(int64_t k, int num_repeats) {
  Rows halves = gated_rows(k, 2 * k);
  Rows floats = halves;
  floats.source.x = floats.put_floats(sample_rows(k, 9), k, k);
  floats.source.other = floats.put_floats(sample_rows(k, 10), k, k);
  const int64_t blocks = (k + 127) / 128;
  const std::vector<int32_t> perm = random_perm(k, blocks * 128);
  for (const BlockScale scale : {BlockScale::kSegment, BlockScale::kSegmentRotated}) {
    for (const int64_t int8_blocks : {int64_t{0}, int64_t{1}, blocks / 3, blocks}) {
      for (const bool permuted : {false, true}) {
        const BlockCase c{scale, int8_blocks, permuted};
        const Codes want = produced_blocks(floats, c, perm);
        for (int i = 0; i < num_repeats; ++i) {
          expect_close(produced_blocks(halves, c, perm), want, 0,
                       fmt::format("k={} scale={} int8={} permuted={}", k, static_cast<int>(scale),
                                   int8_blocks, permuted));
          if (::testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(ProducerCuda, SmallClustersGiveTheBitsOfOneCta) {
  if (!open_gpu()) GTEST_SKIP() << "no GPU";
  check_clusters(8192, 1);
}

TEST(ProducerClustersCuda, BitsOfOneCta) {
  if (!open_gpu()) GTEST_SKIP() << "no GPU";
  for (const int64_t k : {8192, 8328, 14336, 28672, 32768}) check_clusters(k, 5);
}

/// x += delta in place; a second launch would add it again, so one launch per row set.
TEST(ProducerCuda, NormAddsTheResidualOnce) {
  if (!open_gpu()) GTEST_SKIP() << "no GPU";
  for (const int64_t k : {100, 384, 4096, 70000}) {
    for (const FloatType type : {FloatType::kF32, FloatType::kBf16}) {
      const Rows rows = normed_rows(k, k + 8, true, type);
      const std::vector<float> before = sample_rows(k, 6);
      const std::vector<float> delta = sample_rows(k, 7);
      const BlockCase c{BlockScale::kSegment, (k + 127) / 128, false};
      const std::vector<int32_t> perm = random_perm(k, (k + 127) / 128 * 128);
      expect_close(produced_blocks(rows, c, perm), expected_blocks(rows, c, perm), 1e-3,
                   "residual");
      const std::vector<float> after = rows.floats[0]->to_host();
      for (int64_t i = 0; i < kRows * (k + 8); ++i) {
        const int64_t row = i / (k + 8);
        const int64_t channel = i % (k + 8);
        const float got = after[static_cast<size_t>(i)];
        if (channel >= k) {
          ASSERT_TRUE(std::isnan(got)) << "wrote between rows";
        } else {
          const auto at = static_cast<size_t>(row * k + channel);
          ASSERT_EQ(got, before[at] + delta[at]) << row << ", " << channel;
        }
      }
    }
  }
}

TEST(ProducerCuda, Bf16RowsAreRounded) {
  if (!open_gpu()) GTEST_SKIP() << "no GPU";
  for (const int64_t k : {1, 100, 384, 4096, 70000}) {
    for (const Rows& rows : {given_rows(k, k + 8, FloatType::kF32),
                             normed_rows(k, k, false, FloatType::kF32), gated_rows(k, k + 8)}) {
      const int64_t stride = k + 16;
      const DeviceArray<BFloat16> out(static_cast<size_t>(kRows * stride));
      produce_bf16(rows.source, {out.get(), stride}, nullptr);
      const std::vector<BFloat16> got = out.to_host();
      for (int64_t i = 0; i < kRows * stride; ++i) {
        const float y = to_float(got[static_cast<size_t>(i)]);
        if (i % stride >= k) {
          ASSERT_TRUE(std::isnan(y)) << "wrote between rows";
          continue;
        }
        const float want = rows.values[static_cast<size_t>(i / stride * k + i % stride)];
        ASSERT_NEAR(y, want, std::abs(want) * 0x1.01p-8F) << k << " at " << i;
      }
    }
  }
}

/// A scale of the checkpoint; NaN rows.
TEST(ProducerCuda, StaticScalesAndNonFiniteRows) {
  if (!open_gpu()) GTEST_SKIP() << "no GPU";
  constexpr int64_t kChannels = 300;
  constexpr int64_t kPadded = 384;
  constexpr float kScale = 0.0173F;
  Rows rows = given_rows(kChannels, kChannels, FloatType::kF32);
  rows.values[kChannels * 4 - 1] = -HUGE_VALF;
  rows.source.x = rows.put_floats(rows.values, kChannels, kChannels);
  for (const bool is_e4m3 : {false, true}) {
    for (const float static_scale : {0.0F, kScale}) {
      const DeviceArray<uint8_t> codes(kRows * kPadded);
      const DeviceArray<float> scales(kRows);
      const CodeSink sink{codes.get(), kPadded, scales.get(), 1, static_scale};
      produce_bytes(rows.source, sink, is_e4m3);
      const std::vector<float> got_scales = scales.to_host();
      const std::vector<uint8_t> got = codes.to_host();
      for (int64_t r = 0; r < kRows; ++r) {
        const float* x = rows.values.data() + r * kChannels;
        float top = 0;
        for (int64_t i = 0; i < kChannels; ++i) top = std::max(top, std::abs(x[i]));
        const bool finite = r != 3;
        const float limit = is_e4m3 ? 448.0F : 127.0F;
        const float scale = static_scale > 0 ? static_scale : top / limit;
        if (finite) {
          ASSERT_EQ(got_scales[static_cast<size_t>(r)], scale);
        } else {
          ASSERT_TRUE(std::isnan(got_scales[static_cast<size_t>(r)]));
        }
        for (int64_t i = 0; i < kPadded; ++i) {
          int want = 0;
          if (i < kChannels && finite && top > 0) {
            const float v = static_scale > 0 ? x[i] / scale : x[i] * (limit / top);
            want = is_e4m3 ? to_float8_e4m3(v).bits
                           : static_cast<uint8_t>(static_cast<int8_t>(
                                 std::nearbyint(std::clamp(v, -127.0F, 127.0F))));
          }
          ASSERT_EQ(int{got[static_cast<size_t>(r * kPadded + i)]}, want)
              << "e4m3 " << is_e4m3 << " static " << static_scale << " row " << r << " at " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace comet::formats::cuda
