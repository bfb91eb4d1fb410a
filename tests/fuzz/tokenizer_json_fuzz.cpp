// tokenizer.json → tokenizer → text to ids and back. The input is a JSON document, a zero byte and
// a text; the document is read as a whole file, and as an RFC 7386 patch of two small good files,
// so that short inputs get past the vocabulary.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "comet/base/check.h"
#include "comet/text/stream_decoder.h"
#include "comet/text/tokenizer.h"
#include "comet/text/unicode/utf8.h"
#include "support/tiny_tokenizer.h"

namespace {

using comet::Json;
using comet::text::StreamDecoder;
using comet::text::Tokenizer;

constexpr size_t kMaxTextBytes = 1024;

void decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  StreamDecoder stream(tokenizer, false);
  std::string streamed;
  for (const int32_t id : ids) {
    COMET_CHECK(id >= 0 && id < tokenizer.vocab_size(), "id {}", id);
    const std::string piece = stream.push(id);
    COMET_CHECK(comet::text::is_valid_utf8(piece), "a piece of token {}", id);
    streamed += piece;
  }
  streamed += stream.flush();
  const std::string whole = tokenizer.decode(ids, false);
  COMET_CHECK(comet::text::is_valid_utf8(whole), "{} ids", ids.size());
  // A run of byte tokens that is no UTF-8 may differ; it shows as U+FFFD.
  COMET_CHECK(streamed == whole || whole.find("\xEF\xBF\xBD") != std::string::npos, "{} ids",
              ids.size());
}

void use(std::string_view file, std::string_view text) {
  const comet::Result<Tokenizer> tokenizer = Tokenizer::from_json(file, "tokenizer.json");
  if (!tokenizer.ok()) {
    COMET_CHECK(tokenizer.error().message.starts_with("tokenizer.json"), "{}",
                tokenizer.error().message);
    return;
  }
  for (const bool special : {false, true}) {
    decode(*tokenizer,
           tokenizer->encode(text, {.add_special_tokens = special, .parse_special = special}));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(data, data + size);
  const std::string_view all = input;
  const size_t zero = std::min(all.find('\0'), all.size());
  const std::string_view document = all.substr(0, zero);
  const std::string_view text = all.substr(std::min(zero + 1, all.size())).substr(0, kMaxTextBytes);
  use(document, text);
  const comet::Result<Json> patch = comet::parse_json(document, "patch", {.max_depth = 24});
  if (!patch.ok() || !patch->is_object()) return 0;
  for (Json file : {comet::test::tiny_tokenizer_json(), comet::test::tiny_sentencepiece_json()}) {
    file.merge_patch(*patch);
    use(file.dump(-1, ' ', false, Json::error_handler_t::replace), text);
  }
  return 0;
}
