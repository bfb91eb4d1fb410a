#include "comet/text/tokenizer.h"

#include <deque>
#include <limits>

#include "comet/text/tokenizer_parts.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text {
namespace {

/// The stages between the tokens that the raw text spells out: normalizer, the added tokens of the
/// second pass, pre-tokenizer, BPE.
class PieceEncoder {
 public:
  PieceEncoder(const TokenizerParts& parts, bool parse_special, std::vector<int32_t>& ids)
      : parts_(parts), parse_special_(parse_special), ids_(ids), encoder_(parts.model) {}

  /// `is_first`: the text starts with this piece.
  void encode(std::string_view raw, bool is_first) {
    if (!parts_.normalizer.is_identity()) raw = storage_.emplace_back(parts_.normalizer.apply(raw));
    for (const TextPiece& piece : parts_.added_tokens.split_normalized(raw, parse_special_)) {
      if (piece.id != TextPiece::kPlainText) {
        ids_.push_back(piece.id);
        continue;
      }
      const Word whole{piece.text, is_first && piece.text.data() == raw.data()};
      for (const Word& word : parts_.pre_tokenizer.words(whole, storage_)) {
        encoder_.encode_word(word.text, ids_);
      }
    }
  }

 private:
  const TokenizerParts& parts_;
  bool parse_special_;
  std::vector<int32_t>& ids_;
  std::deque<std::string> storage_;  // the encoder's cache points into it
  BpeEncoder encoder_;
};

}  // namespace

Result<Tokenizer> Tokenizer::from_json(std::string_view json_bytes,
                                       const std::string& source_name) {
  Result<TokenizerParts> parts = read_tokenizer_json(json_bytes, source_name);
  if (!parts.ok()) return parts.error();
  return Tokenizer(std::make_shared<const TokenizerParts>(std::move(parts).value()));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  COMET_CHECK(text.size() < std::numeric_limits<uint32_t>::max(), "a text of {} bytes",
              text.size());
  if (!is_valid_utf8(text)) {
    const std::string repaired = replace_invalid_utf8(text);
    return encode(repaired, options);
  }
  const TokenizerParts& parts = *parts_;
  std::vector<int32_t> ids;
  if (options.add_special_tokens) ids = parts.prefix_ids;
  PieceEncoder encoder(parts, options.parse_special, ids);
  for (const TextPiece& piece : parts.added_tokens.split_raw(text, options.parse_special)) {
    if (piece.id != TextPiece::kPlainText) {
      ids.push_back(piece.id);
    } else {
      encoder.encode(piece.text, piece.text.data() == text.data());
    }
  }
  if (options.add_special_tokens) {
    ids.insert(ids.end(), parts.suffix_ids.begin(), parts.suffix_ids.end());
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  TextDecoder decoder(parts_->vocabulary, parts_->decoder, TextDecoder::Mode::kWhole);
  std::string text;
  for (const int32_t id : ids) {
    if (!skip_special || !is_special(id)) decoder.push(id, text);
  }
  decoder.finish(text);
  return text;
}

int64_t Tokenizer::vocab_size() const { return parts_->vocabulary.size(); }

std::optional<int32_t> Tokenizer::token_id(std::string_view spelling) const {
  return parts_->vocabulary.find(spelling);
}

std::string_view Tokenizer::token_bytes(int32_t id) const { return parts_->vocabulary.bytes(id); }

bool Tokenizer::is_special(int32_t id) const { return parts_->vocabulary.is_special(id); }

}  // namespace comet::text
