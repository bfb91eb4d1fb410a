// Added tokens ("<|eot_id|>"): the places of a text that are such tokens, found before anything
// else looks at it, by the rules of Python's `tokenizers`. Caller: Tokenizer::encode.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace comet::text {

struct AddedToken {
  int32_t id = 0;
  std::string content;       // never empty; for `normalized` ones as the normalizer leaves it
  bool single_word = false;  // only where no \w stands beside it
  bool lstrip = false;       // swallows the white space on its left
  bool rstrip = false;       // and on its right
  bool normalized = true;    // looked for in the normalized text, after the others
  bool special = false;      // skipped by decode(skip_special)
};

/// A stretch of the text: a token, or plain text (never empty) for the model.
struct TextPiece {
  static constexpr int32_t kPlainText = -1;
  std::string_view text;
  int32_t id;
};

class AddedTokens {
 public:
  AddedTokens() : AddedTokens(std::vector<AddedToken>{}) {}
  explicit AddedTokens(std::vector<AddedToken> tokens);

  /// Cuts `text` (valid UTF-8), as it came, at the tokens that are not `normalized`. Without
  /// `parse_special` the special tokens that it spells out are plain text.
  [[nodiscard]] std::vector<TextPiece> split_raw(std::string_view text, bool parse_special) const;
  /// Cuts plain text behind the normalizer at the others.
  [[nodiscard]] std::vector<TextPiece> split_normalized(std::string_view text,
                                                        bool parse_special) const;

 private:
  /// A trie over the contents of the tokens of one pass; node 0 is the root.
  struct Trie {
    std::unordered_map<uint64_t, uint32_t> children;  // node << 8 | byte -> node
    std::vector<int32_t> token_idx{kNoToken};         // of each node
    std::array<bool, 256> starts{};                   // bytes that some token starts with
  };
  struct Match {
    size_t end;
    int32_t token_idx;
  };
  static constexpr int32_t kNoToken = -1;

  static void insert(Trie& trie, std::string_view content, int32_t token_idx);
  [[nodiscard]] static Match longest_match(const Trie& trie, std::string_view text, size_t at);
  void split_once(const Trie& trie, std::string_view text, bool parse_special,
                  std::vector<TextPiece>& pieces) const;

  std::vector<AddedToken> tokens_;
  Trie first_pass_;   // normalized == false
  Trie second_pass_;  // normalized == true
};

}  // namespace comet::text
