#include "comet/text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "comet/text/unicode/unicode_tables.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

bool is_word_before(std::string_view text, size_t end) {
  return end > 0 && (class_of(code_point_before(text, end).value) & kWord) != 0;
}

bool is_word_at(std::string_view text, size_t at) {
  return at < text.size() && (class_of(code_point_at(text, at).value) & kWord) != 0;
}

/// Where the white space that ends at `end` begins, but not before `low`.
size_t white_space_begin(std::string_view text, size_t low, size_t end) {
  while (end > low) {
    const CodePoint c = code_point_before(text, end);
    if ((class_of(c.value) & kSpace) == 0) break;
    end -= c.num_bytes;
  }
  return end;
}

size_t white_space_end(std::string_view text, size_t at) {
  while (at < text.size()) {
    const CodePoint c = code_point_at(text, at);
    if ((class_of(c.value) & kSpace) == 0) break;
    at += c.num_bytes;
  }
  return at;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    Trie& trie = tokens_[i].normalized ? second_pass_ : first_pass_;
    insert(trie, tokens_[i].content, static_cast<int32_t>(i));
  }
}

void AddedTokens::insert(Trie& trie, std::string_view content, int32_t token_idx) {
  trie.starts[static_cast<uint8_t>(content[0])] = true;
  uint32_t node = 0;
  for (const char c : content) {
    const uint64_t key = uint64_t{node} << 8 | static_cast<uint8_t>(c);
    const auto created = static_cast<uint32_t>(trie.token_idx.size());
    const auto [it, inserted] = trie.children.emplace(key, created);
    if (inserted) trie.token_idx.push_back(kNoToken);
    node = it->second;
  }
  trie.token_idx[node] = token_idx;
}

AddedTokens::Match AddedTokens::longest_match(const Trie& trie, std::string_view text, size_t at) {
  Match match{at, kNoToken};
  if (!trie.starts[static_cast<uint8_t>(text[at])]) return match;
  uint32_t node = 0;
  for (size_t end = at; end < text.size();) {
    const auto it = trie.children.find(uint64_t{node} << 8 | static_cast<uint8_t>(text[end]));
    if (it == trie.children.end()) break;
    node = it->second;
    ++end;
    if (trie.token_idx[node] != kNoToken) match = {end, trie.token_idx[node]};
  }
  return match;
}

void AddedTokens::split_once(const Trie& trie, std::string_view text, bool parse_special,
                             std::vector<TextPiece>& pieces) const {
  size_t done = 0;  // the pieces so far cover text[0, done)
  const auto emit = [&](size_t begin, size_t end, int32_t id) {
    if (begin < end) pieces.push_back({text.substr(begin, end - begin), id});
  };
  for (size_t at = 0; at < text.size();) {
    const Match match = longest_match(trie, text, at);
    if (match.token_idx == kNoToken) {
      ++at;
      continue;
    }
    size_t begin = std::exchange(at, match.end);
    size_t end = match.end;
    const AddedToken& token = tokens_[static_cast<size_t>(match.token_idx)];
    if (token.special && !parse_special) continue;
    if (token.single_word && (is_word_before(text, begin) || is_word_at(text, end))) continue;
    // rstrip of the token before may have swallowed this one's own white space: then done > begin.
    if (token.lstrip) begin = std::max(done, white_space_begin(text, std::min(done, begin), begin));
    if (token.rstrip) end = white_space_end(text, end);
    emit(done, begin, TextPiece::kPlainText);
    pieces.push_back({text.substr(std::min(begin, end), end - std::min(begin, end)), token.id});
    done = end;
  }
  emit(done, text.size(), TextPiece::kPlainText);
}

std::vector<TextPiece> AddedTokens::split_raw(std::string_view text, bool parse_special) const {
  std::vector<TextPiece> pieces;
  split_once(first_pass_, text, parse_special, pieces);
  return pieces;
}

std::vector<TextPiece> AddedTokens::split_normalized(std::string_view text,
                                                     bool parse_special) const {
  std::vector<TextPiece> pieces;
  split_once(second_pass_, text, parse_special, pieces);
  return pieces;
}

}  // namespace comet::text
