// What a tokenizer.json is read into: the stages of encoding and decoding, each checked.
// tokenizer_json.cpp fills it, tokenizer.cpp runs it; nobody else includes it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "comet/base/result.h"
#include "comet/text/added_tokens.h"
#include "comet/text/bpe/bpe_encoder.h"
#include "comet/text/decoder.h"
#include "comet/text/normalizer.h"
#include "comet/text/split/pre_tokenizer.h"
#include "comet/text/vocabulary.h"

namespace comet::text {

struct TokenizerParts {
  Vocabulary vocabulary;
  AddedTokens added_tokens;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  BpeModel model;
  std::vector<int32_t> prefix_ids;  // what the post-processor puts before the text (BOS)
  std::vector<int32_t> suffix_ids;  // and behind it
  DecoderRules decoder;
};

/// Reads and checks a tokenizer.json; errors as Tokenizer::from_json.
Result<TokenizerParts> read_tokenizer_json(std::string_view json_bytes, const std::string& source);

}  // namespace comet::text
