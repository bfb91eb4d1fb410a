// Codes, scales and residuals of many rows are those of the kernel of one CTA a row, bit for bit:
// BF16 rows are made by persistent CTAs (producer_ring.cu), the same numbers as FP32 by the other;
// rows with gaps, as gate and up have them, norms with and without a residual.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "comet/base/rng.h"
#include "comet/formats/cuda/producer_ring.h"
#include "comet/formats/cuda/producer_test_data.h"
#include "support/gpu.h"

namespace comet::formats::cuda {
namespace {

using ::comet::testing::DeviceArray;
using ::comet::testing::open_gpu;

struct RowsCase {
  SourceKind kind;
  int64_t rows;
  int64_t k;
  int64_t gap = 0;        // elements between rows
  bool has_other = true;  // a norm's residual
  bool permuted = true;   // so, too: not with as many channels
};

/// Normal values that BF16 represents; rows of zeros, with an outlier, a NaN, an infinity.
std::vector<float> sample_rows(const RowsCase& c, uint64_t seed) {
  constexpr size_t kTable = 65521;
  Rng rng(seed);
  std::vector<float> table(kTable);
  for (float& value : table) value = to_float(to_bfloat16(rng.next_normal()));
  const int64_t stride = c.k + c.gap;
  std::vector<float> x(static_cast<size_t>(c.rows * stride));
  for (size_t i = 0; i < x.size(); ++i) x[i] = table[i % kTable];
  std::fill_n(x.begin() + stride, c.k, 0.0F);
  x[static_cast<size_t>(2 * stride + c.k / 2)] = 1024.0F;
  x[static_cast<size_t>(3 * stride + 7)] = std::numeric_limits<float>::quiet_NaN();
  x[static_cast<size_t>(4 * stride + c.k - 1)] = HUGE_VALF;
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
  explicit Inputs(const RowsCase& c)
      : c_(c),
        stride_(c.k + c.gap),
        first_(sample_rows(c, 5)),
        second_(sample_rows(c, 6)),
        weights_(sample_weights(c.k)),
        x_(first_),
        x_again_(first_),
        other_(second_),
        x_half_(halves_of(first_)),
        other_half_(halves_of(second_)) {}

  [[nodiscard]] RowSource source(bool for_rings) const {
    RowSource source;
    source.kind = c_.kind;
    source.rows = c_.rows;
    source.k = c_.k;
    source.eps = 1e-5F;
    source.x = for_rings ? FloatRows{x_half_.get(), stride_, FloatType::kBf16}
                         : FloatRows{x_.get(), stride_, FloatType::kF32};
    if (c_.kind == SourceKind::kRows) return source;
    if (c_.has_other) {
      source.other = for_rings ? FloatRows{other_half_.get(), stride_, FloatType::kBf16}
                               : FloatRows{other_.get(), stride_, FloatType::kF32};
    }
    if (c_.kind != SourceKind::kNorm) return source;
    if (for_rings) source.x = {x_again_.get(), stride_, FloatType::kF32};
    source.weight = weights_.get();
    return source;
  }

  void expect_the_same_residuals(const std::string& what) const {
    const std::vector<float> want = x_.to_host();
    const std::vector<float> got = x_again_.to_host();
    ASSERT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)), 0) << what;
  }

 private:
  RowsCase c_;
  int64_t stride_;
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
    ASSERT_EQ(std::bit_cast<uint32_t>(got.scales[i]), std::bit_cast<uint32_t>(want.scales[i]))
        << what << " scale " << i << ": " << got.scales[i] << " for " << want.scales[i];
  }
  const auto [a, b] = std::mismatch(got.codes.begin(), got.codes.end(), want.codes.begin());
  const int64_t at = a - got.codes.begin();
  ASSERT_TRUE(a == got.codes.end()) << what << " code of row " << at / row_bytes << " at "
                                    << at % row_bytes << ": " << int{*a} << " for " << int{*b};
}

Outputs blocks_of(const RowSource& source, const BlockCase& c, const DeviceArray<int32_t>& perm,
                  bool by_rings) {
  const int64_t blocks = (source.k + 127) / 128;
  const DeviceArray<uint8_t> codes(static_cast<size_t>(source.rows * blocks * 128));
  const DeviceArray<float> scales(static_cast<size_t>(source.rows * 2));
  const BlockSink sink =
      block_sink(c, source.k, reinterpret_cast<int8_t*>(codes.get()), scales.get(), perm.get());
  if (by_rings) {
    EXPECT_TRUE(produce_by_rings(source, sink, nullptr));
  } else {
    produce_w4ax(source, sink, nullptr);
  }
  return {codes.to_host(), scales.to_host()};
}

Outputs bytes_of(const RowSource& source, bool is_e4m3, float static_scale) {
  const int64_t k_padded = (source.k + 127) / 128 * 128;
  const DeviceArray<uint8_t> codes(static_cast<size_t>(source.rows * k_padded));
  constexpr int64_t kScaleStride = 3;
  const DeviceArray<float> scales(
      std::vector<float>(static_cast<size_t>(source.rows * kScaleStride), 7.0F));
  const CodeSink sink{codes.get(), k_padded, scales.get(), kScaleStride, static_scale};
  produce_bytes(source, sink, is_e4m3);
  return {codes.to_host(), scales.to_host()};
}

void check(const RowsCase& rows) {
  const Inputs inputs(rows);
  const int64_t blocks = (rows.k + 127) / 128;
  const DeviceArray<int32_t> perm(random_perm(rows.k, blocks * 128));
  const std::string what =
      fmt::format("source {}, {} rows of {} with gaps of {}, other {}", static_cast<int>(rows.kind),
                  rows.rows, rows.k, rows.gap, rows.has_other);
  for (const BlockScale scale : {BlockScale::kSegment, BlockScale::kSegmentRotated}) {
    for (const int64_t int8_blocks : {int64_t{0}, int64_t{1}, blocks / 3, blocks}) {
      for (const bool permuted : {false, true}) {
        if (permuted && !rows.permuted) continue;
        const BlockCase c{scale, int8_blocks, permuted};
        expect_the_same(blocks_of(inputs.source(true), c, perm, true),
                        blocks_of(inputs.source(false), c, perm, false), blocks * 128,
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

bool has_rings() {
  const auto gpu = open_gpu();
  return gpu && gpu->sm == 90;
}

TEST(ProducerCuda, SmallRingsGiveTheBitsOfOneCta) {
  if (!has_rings()) GTEST_SKIP() << "no GPU of sm_90";
  for (const RowsCase& c :
       {RowsCase{SourceKind::kRows, 12000, 40}, RowsCase{SourceKind::kRows, 1100, 2504, 8},
        RowsCase{SourceKind::kNorm, 12000, 40, 8}, RowsCase{SourceKind::kNorm, 1100, 2504},
        RowsCase{SourceKind::kNorm, 1100, 384, 0, false}, RowsCase{SourceKind::kSiluMul, 12000, 40},
        RowsCase{SourceKind::kSiluMul, 1100, 2504, 2504}}) {
    check(c);
    if (HasFatalFailure()) return;
  }
}

TEST(ProducerRingsCuda, BitsOfOneCta) {
  if (!has_rings()) GTEST_SKIP() << "no GPU of sm_90";
  for (const RowsCase& c :
       {RowsCase{SourceKind::kRows, 1024, 4096}, RowsCase{SourceKind::kRows, 1700, 8192, 8},
        RowsCase{SourceKind::kRows, 1700, 16384}, RowsCase{SourceKind::kNorm, 1700, 4096},
        RowsCase{SourceKind::kNorm, 1700, 4096, 0, false},
        RowsCase{SourceKind::kNorm, 1700, 8192, 8},
        RowsCase{SourceKind::kNorm, 1700, 8192, 0, false},
        RowsCase{SourceKind::kSiluMul, 133, 8328},
        RowsCase{SourceKind::kSiluMul, 1700, 14336, 14336},
        RowsCase{SourceKind::kSiluMul, 700, 16384},
        RowsCase{SourceKind::kSiluMul, 700, 28672, 0, true, false}}) {
    check(c);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace comet::formats::cuda
