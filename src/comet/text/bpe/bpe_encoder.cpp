#include "comet/text/bpe/bpe_encoder.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "comet/base/check.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

constexpr size_t kMaxCachedWords = size_t{1} << 16;
constexpr size_t kMaxCachedWordBytes = 64;

}  // namespace

void BpeEncoder::encode_word(std::string_view word, std::vector<int32_t>& out) {
  COMET_CHECK(word.size() < kNone, "a word of {} bytes; positions have 32 bits", word.size());
  if (word.size() > kMaxCachedWordBytes) {
    merge_word(word, out);
    return;
  }
  const size_t begin = out.size();
  if (const auto it = cache_.find(word); it != cache_.end()) {
    out.resize(begin + it->second.num_tokens);
    std::copy_n(out.begin() + static_cast<ptrdiff_t>(it->second.begin), it->second.num_tokens,
                out.begin() + static_cast<ptrdiff_t>(begin));
    return;
  }
  merge_word(word, out);
  if (cache_.size() < kMaxCachedWords) {
    cache_.emplace(word, CachedWord{begin, out.size() - begin});
  }
}

void BpeEncoder::merge_word(std::string_view word, std::vector<int32_t>& out) {
  if (!model_.whole_words.empty()) {
    const auto it = model_.whole_words.find(word);
    if (it != model_.whole_words.end()) {
      out.push_back(it->second);
      return;
    }
  }
  fill_symbols(word);
  while (!candidates_.empty()) {
    std::pop_heap(candidates_.begin(), candidates_.end(), std::greater<>());
    const auto rank = static_cast<uint32_t>(candidates_.back() >> 32);
    const auto left_pos = static_cast<uint32_t>(candidates_.back());
    candidates_.pop_back();
    const Symbol& left = symbols_[left_pos];
    if (left.id == kAbsorbed || left.next == kNone) continue;
    const Merge* merge = model_.merges.find(left.id, symbols_[left.next].id);
    // A pair that one of its sides has outgrown since it was offered has another rank or none.
    if (merge == nullptr || merge->rank != rank) continue;
    merge_pair(left_pos, merge->merged_id);
  }
  if (symbols_.empty()) return;
  for (uint32_t pos = 0; pos != kNone; pos = symbols_[pos].next) out.push_back(symbols_[pos].id);
}

void BpeEncoder::fill_symbols(std::string_view word) {
  symbols_.clear();
  if (model_.is_byte_level) {
    for (const char c : word) add_symbol(model_.byte_ids[static_cast<uint8_t>(c)]);
  } else {
    add_characters(word);
  }
  candidates_.clear();
  const auto num_symbols = static_cast<uint32_t>(symbols_.size());
  for (uint32_t pos = 0; pos + 1 < num_symbols; ++pos) {
    symbols_[pos].next = pos + 1;
    symbols_[pos + 1].prev = pos;
    const Merge* merge = model_.merges.find(symbols_[pos].id, symbols_[pos + 1].id);
    if (merge != nullptr) candidates_.push_back(uint64_t{merge->rank} << 32 | pos);
  }
  std::make_heap(candidates_.begin(), candidates_.end(), std::greater<>());
}

/// As `tokenizers`, to the letter: an unknown character waits for the next one that has a token or
/// is unknown too, so byte tokens behind it come before it.
void BpeEncoder::add_characters(std::string_view word) {
  bool unk_waits = false;
  for (size_t at = 0; at < word.size();) {
    const CodePoint c = code_point_at(word, at);
    const std::string_view character = word.substr(at, c.num_bytes);
    at += c.num_bytes;
    if (const auto it = model_.char_ids.find(c.value); it != model_.char_ids.end()) {
      if (std::exchange(unk_waits, false)) add_symbol(model_.unk_id);
      add_symbol(it->second);
      continue;
    }
    if (model_.byte_fallback && add_fallback_bytes(character)) continue;
    if (model_.unk_id == BpeModel::kNoToken) continue;
    if (unk_waits && !model_.fuse_unk) add_symbol(model_.unk_id);
    unk_waits = true;
  }
  if (unk_waits) add_symbol(model_.unk_id);
}

bool BpeEncoder::add_fallback_bytes(std::string_view character) {
  const auto id_of = [&](char c) { return model_.byte_ids[static_cast<uint8_t>(c)]; };
  for (const char c : character) {
    if (id_of(c) == BpeModel::kNoToken) return false;
  }
  for (const char c : character) add_symbol(id_of(c));
  return true;
}

void BpeEncoder::offer_pair(uint32_t left_pos) {
  const Symbol& left = symbols_[left_pos];
  const Merge* merge = model_.merges.find(left.id, symbols_[left.next].id);
  if (merge == nullptr) return;
  candidates_.push_back(uint64_t{merge->rank} << 32 | left_pos);
  std::push_heap(candidates_.begin(), candidates_.end(), std::greater<>());
}

void BpeEncoder::merge_pair(uint32_t left_pos, int32_t merged_id) {
  Symbol& left = symbols_[left_pos];
  Symbol& right = symbols_[left.next];
  left.id = merged_id;
  left.next = right.next;
  right.id = kAbsorbed;
  if (left.next != kNone) {
    symbols_[left.next].prev = left_pos;
    offer_pair(left_pos);
  }
  if (left.prev != kNone) offer_pair(left.prev);
}

}  // namespace comet::text
