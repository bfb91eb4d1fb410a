// The answer of GET /tokenizer_info, as vLLM has it and lm-evaluation-harness's remote tokenizer
// reads it. Caller: the serve command, once.
#pragma once

#include <string>
#include <string_view>

#include "comet/base/result.h"

namespace comet::server {

/// tokenizer_config.json without its list of added tokens; special tokens that are objects become
/// their text; bos_token, eos_token and pad_token are always there. `config` may be empty.
Result<std::string> tokenizer_info_text(std::string_view config, const std::string& source);

}  // namespace comet::server
