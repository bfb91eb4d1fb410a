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
  static constexpr int32_t kNoToken = -1;

  /// The token of each single byte: what a byte-level word starts from (none missing), and what a
  /// character without a token becomes with byte_fallback, if all its bytes have one.
  std::array<int32_t, 256> byte_ids{};
  bool is_byte_level = true;
  bool byte_fallback = false;
  std::unordered_map<uint32_t, int32_t> char_ids;  // code point -> token; not for the byte level
  int32_t unk_id = kNoToken;                       // of a character that has nothing else
  bool fuse_unk = false;                           // neighbours of the kind share one unk token
  MergeTable merges;
  IdBySpelling whole_words;  // with ignore_merges: word -> id, tried before merging
};

class BpeEncoder {
 public:
  /// `model` must outlive the encoder.
  explicit BpeEncoder(const BpeModel& model) : model_(model) {}

  /// Appends the tokens of `word` (< 4 GiB; valid UTF-8 unless byte-level), whose bytes must
  /// outlive the encoder. `out` must be the same vector at every call and only grow: the cache
  /// refers to what it holds.
  void encode_word(std::string_view word, std::vector<int32_t>& out);

 private:
  /// One token of the word being merged, in a doubly linked list over what the word starts from.
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
  void add_characters(std::string_view word);
  bool add_fallback_bytes(std::string_view character);
  void add_symbol(int32_t id) { symbols_.push_back({id, kNone, kNone}); }
  void offer_pair(uint32_t left_pos);
  void merge_pair(uint32_t left_pos, int32_t merged_id);

  const BpeModel& model_;
  std::vector<Symbol> symbols_;
  std::vector<uint64_t> candidates_;  // a min-heap of rank << 32 | position of the left symbol
  std::unordered_map<std::string_view, CachedWord> cache_;
};

}  // namespace comet::text
