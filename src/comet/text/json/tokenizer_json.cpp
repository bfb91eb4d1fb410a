// The file as a whole. Its `truncation` and `padding` are not looked at: they are left over from
// training, and Hugging Face's own tokenizers reset them at every call.
#include "comet/text/json/stages.h"
#include "comet/text/unicode/printable.h"

namespace comet::text {
namespace {

constexpr JsonLimits kLimits{.max_bytes = size_t{128} << 20, .max_depth = 32};

Status check_version(const JsonPlace& root) {
  return root.find("version") ? root.only_type("version", "1.0") : Status();
}

/// A SentencePiece protobuf starts with field 1 (0x0A), a message that starts with field 1 itself;
/// JSON can start so only with blank lines and then no letter.
bool is_sentencepiece(std::string_view bytes) {
  return bytes.size() > 4 && bytes[0] == '\n' && bytes[2] == '\n' &&
         std::string_view(" \t\r\n{").find(bytes[4]) == std::string_view::npos;
}

/// The words and the tokens must be spelled alike.
Status check_levels(const JsonPlace& root, bool words_are_bytes, bool tokens_are_bytes) {
  if (words_are_bytes == tokens_are_bytes) return {};
  return make_error(ErrorCode::kUnsupported,
                    "{}: the {} is a ByteLevel but the {} is none; Comet supports only both or "
                    "neither",
                    root.where, words_are_bytes ? "pre_tokenizer" : "decoder",
                    words_are_bytes ? "decoder" : "pre_tokenizer");
}

/// Adds the added tokens to the entries of the model's vocabulary, which may hold some of them
/// already. A clash of ids or spellings stays for Vocabulary::build to find. `normalized` is what
/// they decode from, as `tokenizers` has it.
void append_added_tokens(const std::vector<AddedToken>& tokens,
                         const std::vector<AddedToken>& normalized, DecoderStages& decoder,
                         std::vector<VocabularyEntry>& entries) {
  entries.reserve(entries.size() + tokens.size());  // the views below must stay valid
  std::unordered_map<std::string_view, VocabularyEntry*> known;
  for (VocabularyEntry& entry : entries) known.emplace(entry.spelling, &entry);
  for (size_t i = 0; i < tokens.size(); ++i) {
    VocabularyEntry entry = decoder.entry(tokens[i].id, normalized[i].content, tokens[i].special);
    entry.spelling = tokens[i].content;
    const auto it = known.find(tokens[i].content);
    if (it != known.end() && it->second->id == tokens[i].id) {
      it->second->special = entry.special;
      it->second->bytes = std::move(entry.bytes);
      it->second->is_byte = entry.is_byte;
      known.erase(it);
    } else {
      entries.push_back(std::move(entry));
    }
  }
}

/// The contents as the added-token matcher looks for them.
std::vector<AddedToken> normalized_contents(const Normalizer& normalizer,
                                            std::vector<AddedToken> tokens) {
  for (AddedToken& token : tokens) {
    if (token.normalized) token.content = normalizer.apply(token.content);
  }
  return tokens;
}

Result<TokenizerParts> read_stages(const JsonPlace& root, const std::string& source) {
  if (!root.value->is_object()) return root.unexpected("a JSON object");
  if (Status status = check_version(root); !status.ok()) return status.error();
  Result<DecoderStages> decoder = read_decoder(root);
  if (!decoder.ok()) return decoder.error();
  Result<PreTokenizerStages> stages = read_pre_tokenizer(root);
  if (!stages.ok()) return stages.error();
  const bool is_byte_level = stages->is_byte_level;
  if (Status status = check_levels(root, is_byte_level, decoder->is_byte_level); !status.ok()) {
    return status.error();
  }
  const Result<JsonPlace> model = root.require_object("model");
  if (!model.ok()) return model.error();

  TokenizerParts parts;
  Result<Normalizer> normalizer = read_normalizer(root);
  if (!normalizer.ok()) return normalizer.error();
  parts.normalizer = *std::move(normalizer);
  parts.pre_tokenizer = PreTokenizer(std::move(stages->stages));
  Result<std::vector<AddedToken>> added = read_added_tokens(root);
  if (!added.ok()) return added.error();
  std::vector<VocabularyEntry> entries;
  Result<BpeModel> bpe = read_bpe_model(*model, is_byte_level, *decoder, entries);
  if (!bpe.ok()) return bpe.error();
  parts.model = *std::move(bpe);
  std::vector<AddedToken> normalized = normalized_contents(parts.normalizer, *added);
  append_added_tokens(*added, normalized, *decoder, entries);
  Result<Vocabulary> vocabulary = Vocabulary::build(std::move(entries), source);
  if (!vocabulary.ok()) return vocabulary.error();
  parts.vocabulary = *std::move(vocabulary);
  parts.decoder = std::move(decoder->rules);
  std::erase_if(normalized, [](const AddedToken& token) { return token.content.empty(); });
  parts.added_tokens = AddedTokens(std::move(normalized));
  if (Status status = read_post_processor(root, parts); !status.ok()) return status.error();
  return parts;
}

}  // namespace

Result<TokenizerParts> read_tokenizer_json(std::string_view json_bytes, const std::string& source) {
  if (is_sentencepiece(json_bytes)) {
    return make_error(ErrorCode::kUnsupported,
                      "{} is a SentencePiece model (tokenizer.model), which Comet does not read; "
                      "convert it: in Python, AutoTokenizer.from_pretrained(folder)"
                      ".save_pretrained(folder) of transformers writes the tokenizer.json",
                      source);
  }
  const Result<Json> json = parse_json(json_bytes, source, kLimits);
  if (!json.ok()) return json.error();
  return read_stages(JsonPlace{&*json, source, ": "}, source);
}

}  // namespace comet::text
