#include "comet/server/protocol/answer/tokenizer_info.h"

#include "comet/base/json.h"

namespace comet::server {

Result<std::string> tokenizer_info_text(std::string_view config, const std::string& source) {
  auto json = parse_json(config.empty() ? "{}" : config, source);
  if (!json) return json.error();
  if (!json->is_object()) {
    return make_error(ErrorCode::kCorrupt, "{}: expected an object", source);
  }
  json->erase("added_tokens_decoder");
  for (const char* token : {"bos_token", "eos_token", "pad_token"})
    (*json)[token];  // null at least
  for (auto& [name, value] : json->items()) {
    if (name.ends_with("_token") && value.is_object() && value.contains("content")) {
      value = Json(value["content"]);
    }
  }
  return json->dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace comet::server
