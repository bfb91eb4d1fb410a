// Ids → text, streamed and whole, with a byte-level and a byte-fallback tokenizer. The first byte
// picks the tokenizer and skip_special; then each two bytes are an id, with byte tokens favoured.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "comet/base/check.h"
#include "comet/text/stream_decoder.h"
#include "comet/text/unicode/utf8.h"
#include "support/tiny_tokenizer.h"

namespace {

using comet::text::Tokenizer;

constexpr uint8_t kSkipSpecial = 1;
constexpr uint8_t kByteFallback = 2;
constexpr uint8_t kFlush = 4;  // end the text in the middle, too

Tokenizer tokenizer_of(const comet::Json& file) {
  return Tokenizer::from_json(file.dump(), "tokenizer.json").value();
}

int32_t id_of(uint8_t kind, uint8_t value) {
  if (kind < 200) return value;             // a byte token
  if (kind < 250) return 250 + value % 20;  // a word, a special token, a hole
  return static_cast<int32_t>(kind) * (value % 2 == 0 ? 8'000'000 : -8'000'000);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Tokenizer byte_level = tokenizer_of(comet::test::tiny_tokenizer_json());
  static const Tokenizer fallback = tokenizer_of(comet::test::tiny_sentencepiece_json());
  if (size == 0) return 0;
  const uint8_t flags = data[0];
  const Tokenizer& tokenizer = (flags & kByteFallback) != 0 ? fallback : byte_level;
  const bool skip_special = (flags & kSkipSpecial) != 0;
  comet::text::StreamDecoder stream(tokenizer, skip_special);
  std::vector<int32_t> ids;
  std::string streamed;
  const auto finish = [&] {
    streamed += stream.flush();
    const std::string whole = tokenizer.decode(ids, skip_special);
    COMET_CHECK(comet::text::is_valid_utf8(whole), "{} ids", ids.size());
    const bool may_differ =
        (flags & kByteFallback) != 0 && whole.find("\xEF\xBF\xBD") != std::string::npos;
    COMET_CHECK(streamed == whole || may_differ, "{} ids", ids.size());
    ids.clear();
    streamed.clear();
  };
  for (size_t i = 1; i + 1 < size; i += 2) {
    ids.push_back(id_of(data[i], data[i + 1]));
    const std::string piece = stream.push(ids.back());
    COMET_CHECK(comet::text::is_valid_utf8(piece), "a piece of token {}", ids.back());
    streamed += piece;
    if ((flags & kFlush) != 0 && ids.size() % 16 == 0) finish();
  }
  finish();
  return 0;
}
