#include "comet/kv/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "comet/kv/ragged_case.h"

namespace comet::kv {
namespace {

TEST(PagePool, NeverLeaksAndNeverHandsOutAPageTwice) {
  constexpr int64_t kPages = 50;
  PagePool pool(kPages);
  Rng rng(1);
  std::vector<std::vector<int32_t>> owners;
  std::set<int32_t> taken;
  for (int round = 0; round < 5000; ++round) {
    if (rng.next_below(2) == 0) {
      const auto count = static_cast<int64_t>(rng.next_below(12));
      std::vector<int32_t> pages;
      const int64_t num_free = pool.num_free();
      if (!pool.take(count, pages)) {
        EXPECT_GT(count, num_free);
        EXPECT_TRUE(pages.empty());
        EXPECT_EQ(pool.num_free(), num_free);
        continue;
      }
      ASSERT_EQ(static_cast<int64_t>(pages.size()), count);
      for (const int32_t page : pages) {
        ASSERT_TRUE(page >= 0 && page < kPages);
        for (int32_t lower = 0; lower < page; ++lower) ASSERT_TRUE(taken.contains(lower));
        ASSERT_TRUE(taken.insert(page).second);
      }
      owners.push_back(pages);
    } else if (!owners.empty()) {
      std::swap(owners[rng.next_below(owners.size())], owners.back());
      pool.give_back(owners.back());
      for (const int32_t page : owners.back()) taken.erase(page);
      owners.pop_back();
    }
    ASSERT_EQ(pool.num_free(), kPages - static_cast<int64_t>(taken.size()));
  }
}

TEST(PagePool, WrongReturnsThrowAndChangeNothing) {
  PagePool pool(4);
  std::vector<int32_t> pages;
  ASSERT_TRUE(pool.take(2, pages));
  EXPECT_THROW(pool.give_back({0, 0}), CheckError);
  EXPECT_THROW(pool.give_back({0, 3}), CheckError);
  EXPECT_THROW(pool.give_back({4}), CheckError);
  EXPECT_THROW(pool.give_back({-1}), CheckError);
  EXPECT_EQ(pool.num_free(), 2);
  pool.give_back(pages);
  EXPECT_THROW(pool.give_back(pages), CheckError);
  EXPECT_EQ(pool.num_free(), 4);
}

TEST(KvFormats, AreFoundByName) {
  EXPECT_EQ((*find_kv_format("kv16"))->name, "kv16");
  EXPECT_EQ((*find_kv_format("kv8"))->name, "kv8");
  EXPECT_EQ((*find_kv_format("kv4"))->name, "kv4");
  const auto unknown = find_kv_format("kv32");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().message.find("kv16, kv8, kv4"), std::string::npos);
}

TEST(KvCache, CountsItsBytesAndRefusesBadShapes) {
  const auto cache = KvCache::create(**find_kv_format("kv4"), {8, 128}, 4, 10);
  ASSERT_TRUE(cache.ok());
  EXPECT_EQ(cache->bytes_per_token(), 4 * 8 * 2 * 68);
  EXPECT_EQ(cache->num_pages(), 10);
  for (const KvShape shape : {KvShape{0, 64}, KvShape{1, 63}, KvShape{1, 514}, KvShape{1, 0}})
    EXPECT_FALSE(KvCache::create(kv32_format(), shape, 1, 1).ok());
  EXPECT_FALSE(KvCache::create(kv32_format(), {1, 64}, 0, 1).ok());
  EXPECT_FALSE(KvCache::create(kv32_format(), {1, 64}, 1, 0).ok());
  const auto huge = KvCache::create(kv32_format(), {1024, 512}, 1024, INT32_MAX);
  ASSERT_FALSE(huge.ok());
}

TEST(KvCache, LayersAreApartAndSteadyStepsAllocateNothing) {
  const RaggedCase c({{40, 40}, {70, 70}}, 4, 2, 64, 4);
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  auto cache = KvCache::create(kv32_format(), c.shape(), 2, c.num_pages);
  ASSERT_TRUE(cache.ok());
  const std::vector<double> expected = reference_attention(c, c.k, c.v);
  const std::vector<double> expected_behind = reference_attention(c, c.k, c.k);
  const RaggedBatch all(c.seqs, c.tables);
  std::vector<float> k = RaggedCase::rows(c.k, {0, 0}, {40, 70}, 128);
  std::vector<float> q = RaggedCase::rows(c.q, {0, 0}, {40, 70}, 256);
  const std::vector<float> v = RaggedCase::rows(c.v, {0, 0}, {40, 70}, 128);
  const View<float, 3> keys(k.data(), {110, 2, 64});
  const View<const float, 3> values(v.data(), {110, 2, 64});
  const View<float, 3> queries(q.data(), {110, 4, 64});
  int64_t blocks = 0;
  for (int round = 0; round < 10; ++round) {
    const ArenaScope scope(ctx.arena);
    const Tensor out = cache->attend(ctx, 0, queries, keys, values, all.batch());
    const Tensor behind = cache->attend(ctx, 1, queries, keys, keys, all.batch());
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_NEAR(out.data<float>()[i], expected[i], 1e-5);
      ASSERT_NEAR(behind.data<float>()[i], expected_behind[i], 1e-5);
    }
    if (round == 1) blocks = ctx.arena.num_blocks_taken();
  }
  EXPECT_EQ(ctx.arena.num_blocks_taken(), blocks);
  EXPECT_EQ(cache->num_saturated_rows(), 0);
  std::vector<float> read_k(40 * 128), read_v(40 * 128);
  cache->gather(1, View<float, 3>(read_k.data(), {40, 2, 64}),
                View<float, 3>(read_v.data(), {40, 2, 64}), all.batch(), 0);
  EXPECT_EQ(read_k, c.k[0]);
  EXPECT_EQ(read_v, c.k[0]);
}

TEST(KvCache, BrokenBatchesThrow) {
  RaggedCase c({{1, 40}}, 2, 1, 8, 4);
  const auto runtime = Runtime::cpu(CpuIsa::kPortable, 1);
  Context& ctx = runtime->context();
  auto cache = KvCache::create(kv32_format(), c.shape(), 1, c.num_pages);
  ASSERT_TRUE(cache.ok());
  const View<float, 3> q(c.q[0].data(), {1, 2, 8});
  const View<float, 3> k(c.k[0].data(), {1, 1, 8});
  const RaggedBatch good(c.seqs, c.tables);
  const auto attend = [&](int64_t layer_idx, const RaggedBatch& ragged) {
    cache->attend(ctx, layer_idx, q, k, k, ragged.batch());
  };
  EXPECT_NO_THROW(attend(0, good));
  EXPECT_THROW(attend(1, good), CheckError);
  RaggedBatch page_out_of_range = good;
  page_out_of_range.tables[1] = 2;
  EXPECT_THROW(attend(0, page_out_of_range), CheckError);
  RaggedBatch too_long = good;
  too_long.kv_lens[0] = 65;
  EXPECT_THROW(attend(0, too_long), CheckError);
  RaggedBatch shorter_than_queries = good;
  shorter_than_queries.kv_lens[0] = 0;
  EXPECT_THROW(attend(0, shorter_than_queries), CheckError);
}

}  // namespace
}  // namespace comet::kv
