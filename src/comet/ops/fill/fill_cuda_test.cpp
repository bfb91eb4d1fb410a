// Synthetic contents of device memory against the CPU's Rng, by the rules of random_kind.h.
#include <gtest/gtest.h>

#include "comet/base/rng.h"
#include "comet/ops/fill/cuda/fill.h"
#include "support/gpu.h"

namespace comet::ops_cuda {
namespace {

using testing::DeviceArray;

constexpr int64_t kGuard = 64;

/// Bytes of a fill, with a check that nothing behind them was written.
std::vector<uint8_t> filled(const RandomFillArgs& wanted, int64_t num_bytes, cudaStream_t stream) {
  const DeviceArray<uint8_t> out(static_cast<size_t>(num_bytes + kGuard));
  RandomFillArgs args = wanted;
  args.out = out.get();
  launch_random_fill(args, stream);
  std::vector<uint8_t> bytes = out.to_host();
  for (int64_t i = 0; i < kGuard; ++i) EXPECT_EQ(bytes[num_bytes + i], 0xFF);
  bytes.resize(static_cast<size_t>(num_bytes));
  return bytes;
}

TEST(FillCuda, EqualsTheCpuBitForBit) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  std::vector<uint16_t> table(kRandomTableSize);
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<uint16_t>(i * 40503);
  const DeviceArray<uint16_t> device_table(table);
  for (const int64_t count : {1, 3, 4, 15, 16, 17, 1000, 1 << 20, (1 << 20) + 5}) {
    SCOPED_TRACE(count);
    const Rng rng(77, 5);
    RandomFillArgs args{RandomKind::kTable16, nullptr, count, 77, 5, device_table.get()};
    const std::vector<uint8_t> halves = filled(args, 2 * count, gpu->stream);
    args.kind = RandomKind::kS8;
    const std::vector<uint8_t> s8 = filled(args, count, gpu->stream);
    args.kind = RandomKind::kE4M3;
    const std::vector<uint8_t> e4m3 = filled(args, count, gpu->stream);
    args.kind = RandomKind::kNibbles;
    const std::vector<uint8_t> nibbles = filled(args, count, gpu->stream);
    for (int64_t i = 0; i < count; ++i) {
      const auto part = static_cast<int>(rng.bits(i / 4 * 4) >> (16 * (i % 4)) & 0xFFFF);
      const int half = halves[2 * i] | halves[2 * i + 1] << 8;
      ASSERT_EQ(half, table[static_cast<size_t>(part % kRandomTableSize)]) << i;
      ASSERT_EQ(static_cast<int8_t>(s8[i]), part % 255 - 127) << i;
      ASSERT_EQ(e4m3[i], (part & 0x8F) | 0x30) << i;
      ASSERT_EQ(nibbles[i], rng.bits(i / 8) >> (8 * (i % 8)) & 0xFF) << i;
    }
  }
}

TEST(FillCuda, Words) {
  const auto gpu = testing::open_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  const DeviceArray<uint32_t> out(1003);
  launch_fill_words(out.get(), 0x3C003C00, 1001, gpu->stream);
  const std::vector<uint32_t> words = out.to_host();
  for (size_t i = 0; i < words.size(); ++i) EXPECT_EQ(words[i], i < 1001 ? 0x3C003C00 : 0xFFFFFFFF);
}

}  // namespace
}  // namespace comet::ops_cuda
