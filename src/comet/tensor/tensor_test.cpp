#include "comet/tensor/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

namespace comet {
namespace {

/// Counts what it hands out.
class CountingAllocator final : public Allocator {
 public:
  std::byte* allocate(size_t bytes) override {
    ++num_live;
    return static_cast<std::byte*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
  }
  void free(std::byte* data, size_t) override {
    --num_live;
    std::free(data);
  }
  int num_live = 0;
};

TEST(DType, Float16RoundTripsEveryValue) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const Float16 half{static_cast<uint16_t>(bits)};
    const float value = to_float(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(to_float(to_float16(value))));
    } else {
      ASSERT_EQ(to_float16(value).bits, half.bits) << bits;
    }
  }
}

TEST(DType, Float16IsTheNearestEvenNeighbour) {
  // Halfway between neighbours goes to the even one, a little above or below to the nearer.
  for (uint32_t bits = 0; bits < 0x7BFF; ++bits) {
    const float low = to_float(Float16{static_cast<uint16_t>(bits)});
    const float high = to_float(Float16{static_cast<uint16_t>(bits + 1)});
    const float middle = low + (high - low) / 2;
    ASSERT_EQ(to_float16(middle).bits, bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(to_float16(std::nextafter(middle, 1e9F)).bits, bits + 1);
    ASSERT_EQ(to_float16(-std::nextafter(middle, 0.0F)).bits, bits | 0x8000U);
  }
  EXPECT_EQ(to_float16(65519.9F).bits, 0x7BFF);
  EXPECT_EQ(to_float16(65520.0F).bits, 0x7C00);
}

TEST(DType, BFloat16RoundsToNearestEvenAndKeepsNaN) {
  EXPECT_EQ(to_float(to_bfloat16(1.0F)), 1.0F);
  EXPECT_EQ(to_bfloat16(1.00390625F).bits, 0x3F80);  // halfway: even
  EXPECT_EQ(to_bfloat16(1.01171875F).bits, 0x3F82);
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_EQ(to_float(to_bfloat16(std::numeric_limits<float>::infinity())), INFINITY);
}

TEST(DType, NamesAreThoseOfSafetensors) {
  EXPECT_EQ(parse_dtype("BF16").value(), DType::kBF16);
  EXPECT_EQ(dtype_name(DType::kF8E4M3), "F8_E4M3");
  EXPECT_EQ(dtype_bytes(DType::kI64), 8);
  EXPECT_FALSE(parse_dtype("F64").ok());
}

TEST(Tensor, ViewsSlicesAndReshapes) {
  CountingAllocator allocator;
  {
    Tensor t(std::make_shared<Storage>(allocator, 24 * 4), 0, DType::kF32, {4, 6});
    for (int i = 0; i < 24; ++i) t.data<float>()[i] = static_cast<float>(i);
    const Tensor columns = t.slice(1, 2, 5);
    EXPECT_EQ(columns.shape(), Shape({4, 3}));
    EXPECT_FALSE(columns.contiguous());
    EXPECT_EQ((columns.view<float, 2>()(3, 1)), 21.0F);
    EXPECT_EQ((columns.slice(0, 1, 3).slice(1, 2, 3).view<float, 2>()(1, 0)), 16.0F);
    EXPECT_THROW(static_cast<void>(columns.reshape({12})), CheckError);
    EXPECT_EQ((t.reshape({2, 12}).view<float, 2>()(1, 0)), 12.0F);
    EXPECT_THROW(static_cast<void>(t.view<float, 3>()), CheckError);
    EXPECT_THROW(static_cast<void>(t.data<int32_t>()), CheckError);
    EXPECT_THROW(static_cast<void>(t.slice(0, 3, 5)), CheckError);
    EXPECT_THROW((Tensor(std::make_shared<Storage>(allocator, 8), 0, DType::kF32, {3})),
                 CheckError);
  }
  EXPECT_EQ(allocator.num_live, 0);
}

TEST(Arena, ReusesItsMemoryAndAligns) {
  CountingAllocator allocator;
  Arena arena(allocator, 1024);
  for (int step = 0; step < 10; ++step) {
    const ArenaScope outer(arena);
    const Tensor a = arena.alloc(DType::kF32, {100});
    const std::byte* inner_data = nullptr;
    {
      const ArenaScope inner(arena);
      inner_data = arena.alloc(DType::kU8, {5000}).raw();
    }
    const Tensor b = arena.alloc(DType::kU8, {5000});
    EXPECT_EQ(b.raw(), inner_data);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b.raw()) % Arena::kAlignBytes, 0U);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(a.raw()) % Arena::kAlignBytes, 0U);
  }
  EXPECT_LE(arena.num_blocks_taken(), 3);
  EXPECT_GE(arena.capacity_bytes(), 5400U);
}

TEST(Arena, EmptyTensorsAreFine) {
  CountingAllocator allocator;
  Arena arena(allocator);
  EXPECT_EQ(arena.alloc(DType::kF32, {0, 7}).num_elements(), 0);
}

}  // namespace
}  // namespace comet
