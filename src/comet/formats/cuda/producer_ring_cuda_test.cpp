// Codes, scales and residuals of many rows are those of the kernel of one CTA a row, bit for bit:
// BF16 rows are made by persistent CTAs (producer_ring.cu), the same numbers as FP32 by the other.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "comet/base/rng.h"
#include "comet/formats/cuda/producer.h"
#include "support/gpu.h"

namespace comet::formats::cuda {
namespace {

using ::comet::testing::DeviceArray;
using ::comet::testing::open_gpu;

/// Normal values that BF16 represents; rows of zeros, with an outlier, a NaN, an infinity.
std::vector<float> sample_rows(int64_t rows, int64_t k, uint64_t seed) {
  constexpr size_t kTable = 65521;
  Rng rng(seed);
  std::vector<float> table(kTable);
  for (float& value : table) value = to_float(to_bfloat16(rng.next_normal()));
  std::vector<float> x(static_cast<size_t>(rows * k));
  for (size_t i = 0; i < x.size(); ++i) x[i] = table[i % kTable];
  std::fill_n(x.begin() + k, k, 0.0F);
  x[static_cast<size_t>(2 * k + k / 2)] = 1024.0F;
  x[static_cast<size_t>(3 * k + 7)] = std::numeric_limits<float>::quiet_NaN();
  x[static_cast<size_t>(5 * k - 1)] = HUGE_VALF;
  return x;
}

std::vector<BFloat16> halves_of(const std::vector<float>& x) {
  std::vector<BFloat16> halves(x.size());
  for (size_t i = 0; i < x.size(); ++i) halves[i] = to_bfloat16(x[i]);
  return halves;
}

std::vector<float> sample_weights(int64_t k) {
  Rng rng(8);
  std::vector<float> weights(static_cast<size_t>(k));
  for (float& w : weights) w = 0.5F + rng.next_uniform();
  return weights;
}

/// The same rows twice: as rings take them, and with FP32 where they want BF16.
class Inputs {
 public:
  Inputs(SourceKind kind, int64_t rows, int64_t k)
      : kind_(kind),
        rows_(rows),
        k_(k),
        first_(sample_rows(rows, k, 5)),
        second_(sample_rows(rows, k, 6)),
        weights_(sample_weights(k)),
        x_(first_),
        x_again_(first_),
        other_(second_),
        x_half_(halves_of(first_)),
        other_half_(halves_of(second_)) {}

  [[nodiscard]] RowSource source(bool for_rings) const {
    RowSource source;
    source.kind = kind_;
    source.rows = rows_;
    source.k = k_;
    source.eps = 1e-5F;
    source.x = for_rings ? FloatRows{x_half_.get(), k_, FloatType::kBf16}
                         : FloatRows{x_.get(), k_, FloatType::kF32};
    if (kind_ == SourceKind::kRows) return source;
    source.other = for_rings ? FloatRows{other_half_.get(), k_, FloatType::kBf16}
                             : FloatRows{other_.get(), k_, FloatType::kF32};
    if (kind_ != SourceKind::kNorm) return source;
    if (for_rings) source.x = {x_again_.get(), k_, FloatType::kF32};
    source.weight = weights_.get();
    return source;
  }

  void expect_the_same_residuals(const std::string& what) const {
    const std::vector<float> want = x_.to_host();
    const std::vector<float> got = x_again_.to_host();
    ASSERT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)), 0) << what;
  }

 private:
  SourceKind kind_;
  int64_t rows_;
  int64_t k_;
  std::vector<float> first_;
  std::vector<float> second_;
  DeviceArray<float> weights_;
  DeviceArray<float> x_;        // a norm updates it …
  DeviceArray<float> x_again_;  // … and so has two
  DeviceArray<float> other_;
  DeviceArray<BFloat16> x_half_;
  DeviceArray<BFloat16> other_half_;
};

struct Outputs {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
};

void expect_the_same(const Outputs& got, const Outputs& want, int64_t row_bytes,
                     const std::string& what) {
  for (size_t i = 0; i < want.scales.size(); ++i) {
    ASSERT_EQ(std::memcmp(&got.scales[i], &want.scales[i], sizeof(float)), 0)
        << what << " scale " << i << ": " << got.scales[i] << " for " << want.scales[i];
  }
  const auto [a, b] = std::mismatch(got.codes.begin(), got.codes.end(), want.codes.begin());
  const int64_t at = a - got.codes.begin();
  ASSERT_TRUE(a == got.codes.end()) << what << " code of row " << at / row_bytes << " at "
                                    << at % row_bytes << ": " << int{*a} << " for " << int{*b};
}

struct BlockCase {
  BlockScale scale;
  int64_t int8_blocks;
  bool permuted;
};

Outputs blocks_of(const RowSource& source, const BlockCase& c, const DeviceArray<int32_t>& perm) {
  const int64_t blocks = (source.k + 127) / 128;
  const DeviceArray<uint8_t> codes(static_cast<size_t>(source.rows * blocks * 128));
  const DeviceArray<float> scales(static_cast<size_t>(source.rows * 2));
  BlockSink sink;
  sink.codes = reinterpret_cast<int8_t*>(codes.get());
  sink.scales = scales.get();
  if (c.permuted) sink.perm = perm.get();
  sink.blocks = blocks;
  sink.int4_blocks = blocks - c.int8_blocks;
  sink.clip = 0.85F;
  sink.scale = c.scale;
  produce_w4ax(source, sink, nullptr);
  return {codes.to_host(), scales.to_host()};
}

Outputs bytes_of(const RowSource& source, bool is_e4m3, float static_scale) {
  const int64_t k_padded = (source.k + 127) / 128 * 128;
  const DeviceArray<uint8_t> codes(static_cast<size_t>(source.rows * k_padded));
  const DeviceArray<float> scales(static_cast<size_t>(source.rows));
  const CodeSink sink{codes.get(), k_padded, scales.get(), 1, static_scale};
  if (is_e4m3) {
    produce_e4m3(source, sink, nullptr);
  } else {
    produce_int8(source, sink, nullptr);
  }
  return {codes.to_host(), scales.to_host()};
}

std::vector<int32_t> random_perm(int64_t k, int64_t k_padded) {
  Rng rng(static_cast<uint64_t>(k));
  std::vector<int32_t> perm(static_cast<size_t>(k_padded), -1);
  std::iota(perm.begin(), perm.begin() + k, 0);
  for (size_t i = perm.size(); i > 1; --i) std::swap(perm[i - 1], perm[rng.next_below(i)]);
  return perm;
}

void check(SourceKind kind, int64_t rows, int64_t k) {
  const Inputs inputs(kind, rows, k);
  const int64_t blocks = (k + 127) / 128;
  const DeviceArray<int32_t> perm(random_perm(k, blocks * 128));
  const std::string what = fmt::format("source {}, {} rows of {}", static_cast<int>(kind), rows, k);
  for (const BlockScale scale : {BlockScale::kSegment, BlockScale::kSegmentRotated}) {
    for (const int64_t int8_blocks : {int64_t{0}, int64_t{1}, blocks / 3, blocks}) {
      for (const bool permuted : {false, true}) {
        const BlockCase c{scale, int8_blocks, permuted};
        expect_the_same(blocks_of(inputs.source(true), c, perm),
                        blocks_of(inputs.source(false), c, perm), blocks * 128,
                        fmt::format("{}, scale {}, {} INT8 blocks, permuted {}", what,
                                    static_cast<int>(scale), int8_blocks, permuted));
        if (::testing::Test::HasFatalFailure()) return;
      }
    }
  }
  for (const bool is_e4m3 : {false, true}) {
    for (const float static_scale : {0.0F, 0.0173F}) {
      expect_the_same(bytes_of(inputs.source(true), is_e4m3, static_scale),
                      bytes_of(inputs.source(false), is_e4m3, static_scale), blocks * 128,
                      fmt::format("{}, E4M3 {}, static {}", what, is_e4m3, static_scale));
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
  inputs.expect_the_same_residuals(what);
}

constexpr SourceKind kKinds[] = {SourceKind::kRows, SourceKind::kNorm, SourceKind::kSiluMul};

TEST(ProducerCuda, SmallRingsGiveTheBitsOfOneCta) {
  if (!open_gpu()) GTEST_SKIP() << "no GPU";
  for (const SourceKind kind : kKinds) {
    check(kind, 17, 384);
    check(kind, 12000, 40);
    check(kind, 1100, 2504);
    if (HasFatalFailure()) return;
  }
}

TEST(ProducerRingsCuda, BitsOfOneCta) {
  if (!open_gpu()) GTEST_SKIP() << "no GPU";
  for (const SourceKind kind : kKinds) {
    for (const int64_t k : {4096, 8192, 8328, 14336, 16384, 28672}) {
      for (const int64_t rows : {17, 133, 1700}) check(kind, rows, k);
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace comet::formats::cuda
