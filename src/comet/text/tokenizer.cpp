#include "comet/text/tokenizer.h"

#include <limits>

#include "comet/text/tokenizer_parts.h"
#include "comet/text/unicode/utf8.h"

namespace comet::text {

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
  BpeEncoder encoder(parts.model);
  for (const TextPiece& piece : parts.added_tokens.split(text, options.parse_special)) {
    if (piece.id != TextPiece::kPlainText) {
      ids.push_back(piece.id);
      continue;
    }
    for (size_t begin = 0; begin < piece.text.size();) {
      const size_t end = parts.pattern->word_end(piece.text, begin);
      encoder.encode_word(piece.text.substr(begin, end - begin), ids);
      begin = end;
    }
  }
  if (options.add_special_tokens) {
    ids.insert(ids.end(), parts.suffix_ids.begin(), parts.suffix_ids.end());
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (skip_special && is_special(id)) continue;
    bytes += token_bytes(id);
  }
  return is_valid_utf8(bytes) ? bytes : replace_invalid_utf8(bytes);
}

int64_t Tokenizer::vocab_size() const { return parts_->vocabulary.size(); }

std::optional<int32_t> Tokenizer::token_id(std::string_view spelling) const {
  return parts_->vocabulary.find(spelling);
}

std::string_view Tokenizer::token_bytes(int32_t id) const { return parts_->vocabulary.bytes(id); }

bool Tokenizer::is_special(int32_t id) const { return parts_->vocabulary.is_special(id); }

}  // namespace comet::text
