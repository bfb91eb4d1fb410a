#include "comet/text/bpe/bpe_encoder.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>

#include "comet/base/rng.h"
#include "comet/text/bpe/byte_level.h"

namespace comet::text {
namespace {

using Ids = std::vector<int32_t>;

/// Random merges over the letters a to d: any two tokens may merge, in any order of ranks.
struct RandomModel {
  BpeModel model;
  std::map<std::pair<int32_t, int32_t>, Merge> merges;

  explicit RandomModel(uint64_t seed) {
    constexpr size_t kNumMerges = 60;
    for (size_t byte = 0; byte < 256; ++byte) model.byte_ids[byte] = static_cast<int32_t>(byte);
    model.merges = MergeTable(kNumMerges);
    Rng rng(seed);
    std::vector<std::pair<int32_t, std::string>> tokens;
    for (char c = 'a'; c <= 'd'; ++c) tokens.emplace_back(c, std::string(1, c));
    std::map<std::string, int32_t> ids;
    std::vector<uint32_t> ranks(kNumMerges);
    for (uint32_t i = 0; i < kNumMerges; ++i) ranks[i] = i;
    for (size_t i = kNumMerges; i > 1; --i) std::swap(ranks[i - 1], ranks[rng.next_below(i)]);
    for (size_t i = 0; i < kNumMerges; ++i) {
      const auto left = tokens[rng.next_below(tokens.size())];
      const auto right = tokens[rng.next_below(tokens.size())];
      const std::string merged = left.second + right.second;
      const auto [it, is_first] = ids.emplace(merged, static_cast<int32_t>(256 + ids.size()));
      if (is_first) tokens.emplace_back(it->second, merged);
      const Merge merge{ranks[i], it->second};
      if (model.merges.insert(left.first, right.first, merge)) {
        merges[{left.first, right.first}] = merge;
      }
    }
  }

  /// The definition: merge the leftmost pair of the smallest rank until none is left.
  [[nodiscard]] Ids reference(const std::string& word) const {
    Ids ids;
    for (const char c : word) ids.push_back(static_cast<uint8_t>(c));
    while (true) {
      const Merge* best = nullptr;
      size_t best_idx = 0;
      for (size_t i = 0; i + 1 < ids.size(); ++i) {
        const auto it = merges.find({ids[i], ids[i + 1]});
        if (it == merges.end() || (best != nullptr && best->rank <= it->second.rank)) continue;
        best = &it->second;
        best_idx = i;
      }
      if (best == nullptr) return ids;
      ids[best_idx] = best->merged_id;
      ids.erase(ids.begin() + static_cast<ptrdiff_t>(best_idx) + 1);
    }
  }
};

TEST(BpeEncoder, EqualsTheDefinitionForAnyOrderOfRanks) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const RandomModel random(seed);
    Rng rng(seed, 1);
    for (int trial = 0; trial < 20; ++trial) {
      std::string word(rng.next_below(150), '\0');
      for (char& c : word) c = static_cast<char>('a' + rng.next_below(4));
      BpeEncoder encoder(random.model);
      Ids ids;
      encoder.encode_word(word, ids);
      EXPECT_EQ(ids, random.reference(word)) << word;
    }
  }
}

TEST(BpeEncoder, ACachedWordEncodesTheSame) {
  const RandomModel random(7);
  const std::vector<std::string> words = {"abcd", "aabb", "a", "abcd", "dcba", "a", "aabb"};
  BpeEncoder encoder(random.model);
  Ids ids;
  Ids expected;
  for (const std::string& word : words) {
    encoder.encode_word(word, ids);
    const Ids more = random.reference(word);
    expected.insert(expected.end(), more.begin(), more.end());
  }
  EXPECT_EQ(ids, expected);
}

TEST(MergeTable, FindsWhatWasInsertedAndNothingElse) {
  constexpr int32_t kNum = 1000;
  MergeTable table(kNum);
  for (int32_t i = 0; i < kNum; ++i) {
    EXPECT_TRUE(table.insert(i, i * 7, {static_cast<uint32_t>(i), i + 5}));
  }
  EXPECT_FALSE(table.insert(3, 21, {0, 0}));
  for (int32_t i = 0; i < kNum; ++i) {
    const Merge* merge = table.find(i, i * 7);
    ASSERT_NE(merge, nullptr);
    EXPECT_EQ(merge->merged_id, i + 5);
    EXPECT_EQ(table.find(i * 7 + 1, i), nullptr);
  }
  EXPECT_EQ(MergeTable().find(0, 0), nullptr);
}

TEST(ByteLevel, EveryByteHasItsOwnSpelling) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string spelling = byte_spelling(static_cast<uint8_t>(byte));
    EXPECT_EQ(spelled_bytes(spelling), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(byte_spelling(' '), "\u0120");
  EXPECT_EQ(byte_spelling('\n'), "\u010A");
  EXPECT_EQ(byte_spelling(0xAD), "\u0143");
  EXPECT_EQ(spelled_bytes("\u0120the"), " the");
}

TEST(ByteLevel, OtherCharactersStandForNoByte) {
  for (const char* text : {" ", "a b", "\n", "\u00AD", "\u0144", "\u6F22", "\U0001F600"}) {
    EXPECT_EQ(spelled_bytes(text), std::nullopt) << text;
  }
  EXPECT_EQ(spelled_bytes(""), "");
}

}  // namespace
}  // namespace comet::text
