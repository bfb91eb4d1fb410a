#include "comet/text/json/stages.h"

namespace comet::text {
namespace {

// Bounds the trie over the tokens: no real file has a hundredth of it.
constexpr size_t kMaxContentBytes = size_t{4} << 20;  // of all added tokens together

Status read_flag(const JsonPlace& place, std::string_view field, bool& flag) {
  const Result<std::optional<bool>> value = place.object().boolean(field);
  if (!value.ok()) return value.error();
  flag = value->value_or(flag);
  return {};
}

Result<AddedToken> read_added_token(const JsonPlace& place) {
  if (!place.value->is_object()) return place.unexpected("an object");
  const Result<int64_t> id = place.require_integer("id", 0, kMaxVocabSize - 1);
  if (!id.ok()) return id.error();
  Result<std::string> content = place.require_string("content");
  if (!content.ok()) return content.error();
  if (content->empty()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: field 'content' is empty; an added token needs a text", place.where);
  }
  AddedToken token;
  token.id = static_cast<int32_t>(*id);
  token.content = std::move(content).value();
  if (Status s = read_flag(place, "special", token.special); !s.ok()) return s.error();
  token.normalized = !token.special;
  if (Status s = read_flag(place, "normalized", token.normalized); !s.ok()) return s.error();
  if (Status s = read_flag(place, "single_word", token.single_word); !s.ok()) return s.error();
  if (Status s = read_flag(place, "lstrip", token.lstrip); !s.ok()) return s.error();
  if (Status s = read_flag(place, "rstrip", token.rstrip); !s.ok()) return s.error();
  return token;
}

}  // namespace

Result<std::vector<AddedToken>> read_added_tokens(const JsonPlace& root) {
  std::vector<AddedToken> tokens;
  if (!root.find("added_tokens")) return tokens;
  const Result<JsonPlace> array = root.require_array("added_tokens");
  if (!array.ok()) return array.error();
  size_t num_content_bytes = 0;
  for (size_t i = 0; i < array->value->size(); ++i) {
    Result<AddedToken> token = read_added_token(array->element(i));
    if (!token.ok()) return token.error();
    num_content_bytes += token->content.size();
    if (num_content_bytes > kMaxContentBytes) {
      return make_error(ErrorCode::kCorrupt,
                        "{}: the tokens up to number {} have more than {} bytes", array->where, i,
                        kMaxContentBytes);
    }
    tokens.push_back(std::move(token).value());
  }
  return tokens;
}

}  // namespace comet::text
