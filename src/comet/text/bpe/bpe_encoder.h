// BPE merging of one word at a time (Sennrich et al. 2016), O(n log n) in the word's length.
// Tokenizer::encode makes one BpeEncoder for each text; it is scratch space and a word cache.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "comet/text/bpe/merge_table.h"
#include "comet/text/vocabulary.h"

namespace comet::text {

struct BpeModel {
  std::array<int32_t, 256> byte_ids{};  // the token of each single byte
  MergeTable merges;
  IdBySpelling whole_words;  // with ignore_merges: bytes -> id, tried before merging
};

class BpeEncoder {
 public:
  /// `model` must outlive the encoder.
  explicit BpeEncoder(const BpeModel& model) : model_(model) {}

  /// Appends the tokens of `word` (< 4 GiB), whose bytes must outlive the encoder. `out` must be
  /// the same vector at every call and only grow: the cache refers to what it holds.
  void encode_word(std::string_view word, std::vector<int32_t>& out);

 private:
  /// One token of the word being merged, in a doubly linked list over the word's byte positions.
  struct Symbol {
    int32_t id;     // kAbsorbed once the left neighbour has swallowed it
    uint32_t prev;  // kNone at the word's start
    uint32_t next;  // kNone at its end
  };
  struct CachedWord {
    size_t begin;  // in `out`
    size_t num_tokens;
  };
  static constexpr int32_t kAbsorbed = -1;
  static constexpr uint32_t kNone = ~uint32_t{0};

  void merge_word(std::string_view word, std::vector<int32_t>& out);
  void fill_symbols(std::string_view word);
  void offer_pair(uint32_t left_pos);
  void merge_pair(uint32_t left_pos, int32_t merged_id);

  const BpeModel& model_;
  std::vector<Symbol> symbols_;
  std::vector<uint64_t> candidates_;  // a min-heap of rank << 32 | position of the left symbol
  std::unordered_map<std::string_view, CachedWord> cache_;
};

}  // namespace comet::text
