// Codes of given FP32 rows of LLaMA-3's sizes equal the CPU's bit for bit, for every number of
// tokens: w4ax in every mode, s8 and E4M3; and BF16 rows.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "comet/base/rng.h"
#include "comet/device/device.h"
#include "comet/device/thread_pool.h"
#include "comet/formats/cpu/quantize_row.h"
#include "comet/formats/cuda/producer_test_data.h"
#include "comet/tensor/float8.h"
#include "support/gpu.h"

namespace comet::formats::cuda {
namespace {

using ::comet::testing::DeviceArray;

constexpr int64_t kChannels[] = {4096, 8192, 14336, 28672};
constexpr int64_t kRowCounts[] = {1, 3, 16, 64, 100, 256, 1024};
constexpr int64_t kMaxRows = 1024;

/// Rows on both sides. Some are extreme: zeros, an outlier, large and tiny ones.
struct Rows {
  explicit Rows(int64_t channels) : k(channels), values(make(channels)), device(values) {}
  static std::vector<float> make(int64_t k) {
    Rng rng(static_cast<uint64_t>(k));
    std::vector<float> x(static_cast<size_t>(kMaxRows * k));
    for (float& value : x) value = rng.next_normal();
    std::fill_n(x.begin() + k, k, 0.0F);
    x[static_cast<size_t>(2 * k + k / 2)] = 1e4F;
    for (int64_t i = 0; i < k; ++i) {
      x[static_cast<size_t>(4 * k + i)] *= 0x1p110F;
      x[static_cast<size_t>(5 * k + i)] *= 0x1p-110F;
      x[static_cast<size_t>(6 * k + i)] = i % 2 == 0 ? 1.0F : -1.0F;
    }
    return x;
  }
  [[nodiscard]] RowSource source(int64_t rows) const {
    RowSource source;
    source.rows = rows;
    source.k = k;
    source.x = {device.get(), k, FloatType::kF32};
    return source;
  }
  int64_t k;
  std::vector<float> values;
  DeviceArray<float> device;
};

template <typename T>
void expect_prefix(const std::vector<T>& got, const std::vector<T>& want, int64_t rows,
                   const std::string& what) {
  ASSERT_LE(got.size(), want.size()) << what;
  const auto [a, b] = std::mismatch(got.begin(), got.end(), want.begin(), [](T x, T y) {
    const auto bytes_of = [](T value) {
      return std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
    };
    return bytes_of(x) == bytes_of(y);
  });
  ASSERT_TRUE(a == got.end()) << what << ", " << rows << " rows: element " << a - got.begin()
                              << " is " << static_cast<double>(*a) << ", not "
                              << static_cast<double>(*b);
}

void check_blocks(const Rows& rows, const std::vector<int32_t>& perm, const BlockCase& c,
                  ThreadPool& pool) {
  formats::cpu::RowPlan plan;
  plan.perm = perm.data();
  plan.k = rows.k;
  plan.blocks = rows.k / 128;
  plan.int4_blocks = plan.blocks - c.int8_blocks;
  plan.clip = kClip;
  plan.scale = static_cast<formats::cpu::RowScale>(c.scale);
  const int64_t num_scales = c.scale == BlockScale::kBlock ? plan.blocks : 2;
  std::vector<int8_t> want_codes(static_cast<size_t>(kMaxRows * rows.k));
  std::vector<float> want_scales(static_cast<size_t>(kMaxRows * num_scales));
  pool.parallel_for(kMaxRows, [&](int64_t r, int) {
    std::vector<float> scratch(static_cast<size_t>(rows.k));
    std::vector<int32_t> sums(static_cast<size_t>(plan.blocks));
    formats::cpu::quantize_row_portable(
        plan, rows.values.data() + r * rows.k, scratch.data(),
        {want_codes.data() + r * rows.k, want_scales.data() + r * num_scales, sums.data()});
  });
  const DeviceArray<int32_t> device_perm(perm);
  for (const int64_t num_rows : kRowCounts) {
    const DeviceArray<int8_t> codes(static_cast<size_t>(num_rows * rows.k));
    const DeviceArray<float> scales(static_cast<size_t>(num_rows * num_scales));
    produce_w4ax(rows.source(num_rows),
                 block_sink(c, rows.k, codes.get(), scales.get(), device_perm.get()), nullptr);
    const std::string what =
        fmt::format("w4ax k={} scale={} int8={}", rows.k, static_cast<int>(c.scale), c.int8_blocks);
    expect_prefix(scales.to_host(), want_scales, num_rows, what + " scales");
    expect_prefix(codes.to_host(), want_codes, num_rows, what + " codes");
    if (::testing::Test::HasFatalFailure()) return;
  }
}

/// docs/formats.md §1, A8, and the same with E4M3.
void check_bytes(const Rows& rows, bool is_e4m3, ThreadPool& pool) {
  std::vector<uint8_t> want_codes(static_cast<size_t>(kMaxRows * rows.k), 0);
  std::vector<float> want_scales(static_cast<size_t>(kMaxRows), 0.0F);
  const float limit = is_e4m3 ? 448.0F : 127.0F;
  pool.parallel_for(kMaxRows, [&](int64_t r, int) {
    const float* x = rows.values.data() + r * rows.k;
    float top = 0;
    for (int64_t i = 0; i < rows.k; ++i) top = std::max(top, std::abs(x[i]));
    if (top < 0x1p-100F) return;
    const float factor = limit / top;
    want_scales[static_cast<size_t>(r)] = top / limit;
    for (int64_t i = 0; i < rows.k; ++i) {
      const float v = x[i] * factor;
      want_codes[static_cast<size_t>(r * rows.k + i)] =
          is_e4m3 ? to_float8_e4m3(v).bits
                  : static_cast<uint8_t>(
                        static_cast<int8_t>(std::nearbyint(std::clamp(v, -127.0F, 127.0F))));
    }
  });
  for (const int64_t num_rows : kRowCounts) {
    const DeviceArray<uint8_t> codes(static_cast<size_t>(num_rows * rows.k));
    const DeviceArray<float> scales(static_cast<size_t>(num_rows));
    const CodeSink sink{codes.get(), rows.k, scales.get(), 1, 0};
    produce_bytes(rows.source(num_rows), sink, is_e4m3);
    const std::string what = fmt::format("{} k={}", is_e4m3 ? "e4m3" : "s8", rows.k);
    expect_prefix(scales.to_host(), want_scales, num_rows, what + " scales");
    expect_prefix(codes.to_host(), want_codes, num_rows, what + " codes");
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(ProducerLlamaCuda, CodesOfGivenRowsAreTheCpus) {
  if (!testing::open_gpu()) GTEST_SKIP() << "no GPU";
  ThreadPool pool(default_num_threads());
  for (const int64_t k : kChannels) {
    const Rows rows(k);
    const std::vector<int32_t> perm = random_perm(k, k);
    for (const BlockScale scale :
         {BlockScale::kBlock, BlockScale::kSegment, BlockScale::kSegmentRotated}) {
      for (const int64_t int8_blocks : {int64_t{0}, int64_t{1}, k / 128}) {
        check_blocks(rows, perm, {scale, int8_blocks, true}, pool);
        if (HasFatalFailure()) return;
      }
    }
    for (const bool is_e4m3 : {false, true}) check_bytes(rows, is_e4m3, pool);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace comet::formats::cuda
