// The file as a whole. Its `truncation` and `padding` are not looked at: they are left over from
// training, and Hugging Face's own tokenizers reset them at every call.
#include "comet/text/bpe/byte_level.h"
#include "comet/text/json/stages.h"
#include "comet/text/unicode/printable.h"

namespace comet::text {
namespace {

constexpr JsonLimits kLimits{.max_bytes = size_t{128} << 20, .max_depth = 32};

Status check_version(const JsonPlace& root) {
  return root.find("version") ? root.only_type("version", "1.0") : Status();
}

Status check_normalizer(const JsonPlace& root) {
  const std::optional<JsonPlace> normalizer = root.find("normalizer");
  if (!normalizer) return {};
  Result<std::string> type = normalizer->require_string("type");
  if (!type.ok()) return type.error();
  return make_error(ErrorCode::kUnsupported,
                    "{}: field 'type' is '{}', but Comet supports only null (no normalizer)",
                    normalizer->where, printable(*type));
}

Status check_decoder(const JsonPlace& root) {
  const Result<JsonPlace> decoder = root.require_object("decoder");
  if (!decoder.ok()) return decoder.error();
  return decoder->only_type("type", "ByteLevel");
}

/// Adds the added tokens to the entries of the model's vocabulary, which may hold some of them
/// already. A clash of ids or spellings stays for Vocabulary::build to find.
void append_added_tokens(const std::vector<AddedToken>& tokens,
                         std::vector<VocabularyEntry>& entries) {
  entries.reserve(entries.size() + tokens.size());  // the views below must stay valid
  std::unordered_map<std::string_view, VocabularyEntry*> known;
  for (VocabularyEntry& entry : entries) known.emplace(entry.spelling, &entry);
  for (const AddedToken& token : tokens) {
    const auto it = known.find(token.content);
    if (it != known.end() && it->second->id == token.id) {
      it->second->special = token.special;
      known.erase(it);
    } else {
      // The decoder reads every token as byte characters where it can, added ones too.
      std::string bytes = spelled_bytes(token.content).value_or(token.content);
      entries.push_back({token.id, token.content, std::move(bytes), token.special});
    }
  }
}

Result<TokenizerParts> read_stages(const JsonPlace& root, const std::string& source) {
  if (!root.value->is_object()) return root.unexpected("a JSON object");
  if (Status status = check_version(root); !status.ok()) return status.error();
  if (Status status = check_normalizer(root); !status.ok()) return status.error();
  if (Status status = check_decoder(root); !status.ok()) return status.error();
  const Result<JsonPlace> model = root.require_object("model");
  if (!model.ok()) return model.error();

  TokenizerParts parts;
  const Result<const SplitPattern*> pattern = read_pre_tokenizer(root);
  if (!pattern.ok()) return pattern.error();
  parts.pattern = *pattern;
  Result<std::vector<AddedToken>> added = read_added_tokens(root);
  if (!added.ok()) return added.error();
  std::vector<VocabularyEntry> entries;
  Result<BpeModel> bpe = read_bpe_model(*model, entries);
  if (!bpe.ok()) return bpe.error();
  parts.model = std::move(bpe).value();
  append_added_tokens(*added, entries);
  Result<Vocabulary> vocabulary = Vocabulary::build(std::move(entries), source);
  if (!vocabulary.ok()) return vocabulary.error();
  parts.vocabulary = std::move(vocabulary).value();
  parts.added_tokens = AddedTokens(std::move(added).value());
  if (Status status = read_post_processor(root, parts); !status.ok()) return status.error();
  return parts;
}

}  // namespace

Result<TokenizerParts> read_tokenizer_json(std::string_view json_bytes, const std::string& source) {
  const Result<Json> json = parse_json(json_bytes, source, kLimits);
  if (!json.ok()) return json.error();
  return read_stages(JsonPlace{&*json, source, ": "}, source);
}

}  // namespace comet::text
