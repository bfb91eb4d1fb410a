// The readers of a tokenizer.json, one for each stage of the tokenizer. read_tokenizer_json calls
// them; each checks all that it takes and names the field that is wrong.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "comet/text/json/fields.h"
#include "comet/text/tokenizer_parts.h"

namespace comet::text {

/// More stages in one list than this are nonsense, and each costs time with every text.
inline constexpr size_t kMaxStages = 64;

/// The list `field` of a Sequence: at most kMaxStages objects.
Result<std::vector<JsonPlace>> read_stage_list(const JsonPlace& sequence, std::string_view field);

/// {"String": ...} in the field `pattern`, not empty.
Result<std::string> read_literal_pattern(const JsonPlace& stage);

/// `pattern` and `content` of a Replace. `growth` is multiplied by how often it can lengthen a text
/// and bounded: a small file must not make a huge text of a small one.
Result<ReplaceStep> read_replace(const JsonPlace& stage, size_t& growth);

/// The field `replacement` of a Metaspace: one character.
Result<std::string> read_metaspace_character(const JsonPlace& place);

/// `normalizer`, which may be missing.
Result<Normalizer> read_normalizer(const JsonPlace& root);

struct PreTokenizerStages {
  std::vector<PreTokenizerStage> stages;
  bool is_byte_level = false;  // a ByteLevel is among them
  bool is_spelled = false;     // further stages see its byte characters
};

/// `pre_tokenizer`, which may be missing.
Result<PreTokenizerStages> read_pre_tokenizer(const JsonPlace& root);

/// How the decoder turns single tokens into bytes, and what it does with the text then.
struct DecoderStages {
  bool is_byte_level = false;
  std::vector<ReplaceStep> replaces;  // in each token, before anything else looks at it
  std::string metaspace;              // becomes a blank; empty without a Metaspace
  DecoderRules rules;

  /// The entry of a token; may add to rules.first_texts.
  VocabularyEntry entry(int32_t id, std::string spelling, bool special);
};

/// `decoder`.
Result<DecoderStages> read_decoder(const JsonPlace& root);

/// `model`: the vocabulary, appended to `entries`, and the merges. Only BPE passes.
Result<BpeModel> read_bpe_model(const JsonPlace& model, bool is_byte_level, DecoderStages& decoder,
                                std::vector<VocabularyEntry>& entries);

/// `added_tokens`, which may be missing.
Result<std::vector<AddedToken>> read_added_tokens(const JsonPlace& root);

/// `post_processor`, which may be missing: fills parts.prefix_ids and suffix_ids.
/// parts.vocabulary must be there.
Status read_post_processor(const JsonPlace& root, TokenizerParts& parts);

}  // namespace comet::text
