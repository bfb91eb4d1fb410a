// Random contents on a CPU against the definition (random_kind.h), element by element.
#include "comet/ops/fill/fill.h"

#include <gtest/gtest.h>

#include <numeric>

#include "comet/base/rng.h"

namespace comet {
namespace {

TEST(Fill, EveryElementIsItsDraw) {
  auto runtime = Runtime::cpu(CpuIsa::kPortable, 3);
  Context& ctx = runtime->context();
  const Tensor table = allocate_tensor(host_allocator(), DType::kBF16, {kRandomTableSize});
  auto* values = reinterpret_cast<uint16_t*>(table.raw());
  for (int64_t i = 0; i < kRandomTableSize; ++i) values[i] = static_cast<uint16_t>(i * 40503);
  const Rng rng(77, 5);
  for (const int64_t count : {1, 3, 4, 15, 17, 1000, (1 << 18) + 5}) {
    SCOPED_TRACE(count);
    const auto filled = [&](RandomKind kind) {
      const bool halves = kind == RandomKind::kTable16;
      const Tensor out =
          allocate_tensor(host_allocator(), halves ? DType::kBF16 : DType::kU8, {count});
      random_fill(ctx, out, {kind, 77, 5, halves ? table : Tensor()});
      return out;
    };
    const Tensor halves = filled(RandomKind::kTable16);
    const Tensor s8 = filled(RandomKind::kS8);
    const Tensor e4m3 = filled(RandomKind::kE4M3);
    const Tensor nibbles = filled(RandomKind::kNibbles);
    for (int64_t i = 0; i < count; ++i) {
      const auto draw = static_cast<uint64_t>(i);
      const auto part = static_cast<int>(rng.bits(draw / 4 * 4) >> (16 * (i % 4)) & 0xFFFF);
      ASSERT_EQ(reinterpret_cast<const uint16_t*>(halves.raw())[i], values[part % kRandomTableSize])
          << i;
      ASSERT_EQ(static_cast<int8_t>(s8.data<uint8_t>()[i]), part % 255 - 127) << i;
      ASSERT_EQ(e4m3.data<uint8_t>()[i], (part & 0x8F) | 0x30) << i;
      ASSERT_EQ(nibbles.data<uint8_t>()[i], rng.bits(draw / 8) >> (8 * (i % 8)) & 0xFF) << i;
    }
  }
}

}  // namespace
}  // namespace comet
