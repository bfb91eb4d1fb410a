// The bounds of request fields and the tables made of them. One source for the parsers, the flags
// of `comet serve` and /openapi.json. Immutable once the server runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comet/server/protocol/json/fields.h"
#include "comet/server/protocol/json/strict_json.h"

namespace comet::server {

struct RequestLimits {
  JsonBodyLimits json;
  int64_t max_n = 128;
  int64_t max_top_logprobs = 20;
  int64_t max_stop = 16;
  int64_t max_stop_bytes = 1024;
  int64_t max_logit_bias = 1024;
  int64_t max_prompts = 1024;
  int64_t max_messages = 4096;
  int64_t vocab_size = 0;  // 0 while the model loads: no request is parsed then
};

/// Fields that completions and chat share.
std::vector<FieldSpec> generation_fields(const RequestLimits& limits);
/// What each adds.
std::vector<FieldSpec> completion_fields(const RequestLimits& limits);
std::vector<FieldSpec> chat_fields(const RequestLimits& limits);
std::vector<FieldSpec> stream_option_fields();
std::vector<FieldSpec> tokenize_fields();

/// Fields that would change the answer but that this server has not: refused unless null, empty or
/// the value that asks for nothing.
struct RefusedField {
  std::string_view name;
  std::string_view harmless;  // a JSON text that is accepted; empty: none
};
std::vector<RefusedField> refused_completion_fields();
std::vector<RefusedField> refused_chat_fields();

}  // namespace comet::server
