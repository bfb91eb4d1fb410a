// The readers of a tokenizer.json, one for each stage of the tokenizer. read_tokenizer_json calls
// them; each checks all that it takes and names the field that is wrong.
#pragma once

#include <vector>

#include "comet/text/json/fields.h"
#include "comet/text/tokenizer_parts.h"

namespace comet::text {

/// `model`: the vocabulary, appended to `entries`, and the merges. Only plain byte-level BPE
/// passes.
Result<BpeModel> read_bpe_model(const JsonPlace& model, std::vector<VocabularyEntry>& entries);

/// `added_tokens`, which may be missing.
Result<std::vector<AddedToken>> read_added_tokens(const JsonPlace& root);

/// `pre_tokenizer`: a split pattern that Comet has a scanner for, then the byte level.
Result<const SplitPattern*> read_pre_tokenizer(const JsonPlace& root);

/// `post_processor`, which may be missing: fills parts.prefix_ids and suffix_ids.
/// parts.vocabulary must be there.
Status read_post_processor(const JsonPlace& root, TokenizerParts& parts);

}  // namespace comet::text
