// The merges of a BPE model as a hash table from a pair of token ids to its rank and result.
// Built once by the tokenizer.json reader; BpeEncoder asks it for every neighbouring pair.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace comet::text {

struct Merge {
  uint32_t rank;      // merges of a smaller rank come first
  int32_t merged_id;  // the token that left and right become
};

class MergeTable {
 public:
  explicit MergeTable(size_t num_merges = 0);

  /// False when the pair is there already. At most `num_merges` pairs.
  bool insert(int32_t left, int32_t right, Merge merge);
  /// nullptr when the pair does not merge.
  [[nodiscard]] const Merge* find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t pair = kEmpty;
    Merge merge{};
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};  // ids are not negative, so no pair looks so

  /// The slot of the pair, or the empty one where it would go (linear probing).
  [[nodiscard]] size_t slot_of(uint64_t pair) const;

  std::vector<Slot> slots_;  // a power of two, at most half full
  int shift_;
};

}  // namespace comet::text
