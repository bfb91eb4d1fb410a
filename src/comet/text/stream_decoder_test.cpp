#include "comet/text/stream_decoder.h"

#include <gtest/gtest.h>

#include "comet/base/rng.h"
#include "comet/text/unicode/utf8.h"
#include "support/tiny_tokenizer.h"

namespace comet::text {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";

Tokenizer tiny() {
  return Tokenizer::from_json(test::tiny_tokenizer_json().dump(), "tokenizer.json").value();
}

TEST(StreamDecoder, HoldsACharacterUntilItIsComplete) {
  StreamDecoder decoder(tiny(), false);
  EXPECT_EQ(decoder.push(259), "hello");
  EXPECT_EQ(decoder.push(0xF0), "");
  EXPECT_EQ(decoder.push(0x9F), "");
  EXPECT_EQ(decoder.push(0x98), "");
  EXPECT_EQ(decoder.push(0x80), "\xF0\x9F\x98\x80");
  EXPECT_EQ(decoder.flush(), "");
}

TEST(StreamDecoder, ReplacesWhatCannotBecomeACharacterAtOnce) {
  StreamDecoder decoder(tiny(), false);
  EXPECT_EQ(decoder.push(0xFF), kReplacement);
  EXPECT_EQ(decoder.push(0xE2), "");
  EXPECT_EQ(decoder.push('x'), std::string(kReplacement) + "x");
  EXPECT_EQ(decoder.push(0xED), "");
  EXPECT_EQ(decoder.push(0xA0), std::string(kReplacement) + kReplacement);  // a surrogate
}

TEST(StreamDecoder, FlushEndsAnIncompleteCharacterOnce) {
  StreamDecoder decoder(tiny(), false);
  decoder.push(0xF0);
  decoder.push(0x9F);
  EXPECT_EQ(decoder.flush(), kReplacement);
  EXPECT_EQ(decoder.flush(), "");
  EXPECT_EQ(decoder.push('a'), "a");
}

TEST(StreamDecoder, SkipsSpecialTokensInsideACharacterToo) {
  StreamDecoder decoder(tiny(), true);
  decoder.push(0xC3);
  EXPECT_EQ(decoder.push(261), "");
  EXPECT_EQ(decoder.push(0xA9), "\xC3\xA9");
  StreamDecoder showing(tiny(), false);
  showing.push(0xC3);
  EXPECT_EQ(showing.push(261), std::string(kReplacement) + "<s>");
}

TEST(StreamDecoder, IgnoresIdsThatNoTokenHas) {
  StreamDecoder decoder(tiny(), false);
  decoder.push(0xC3);
  EXPECT_EQ(decoder.push(-1), "");
  EXPECT_EQ(decoder.push(99999), "");
  EXPECT_EQ(decoder.push(0xA9), "\xC3\xA9");
}

TEST(StreamDecoder, AllPiecesTogetherAreDecodeOfAllIds) {
  const Tokenizer tokenizer = tiny();
  Rng rng(11);
  for (int trial = 0; trial < 3000; ++trial) {
    const bool skip_special = trial % 2 == 0;
    StreamDecoder decoder(tokenizer, skip_special);
    std::vector<int32_t> ids(rng.next_below(20));
    std::string text;
    for (int32_t& id : ids) {
      // Mostly bytes from 0x80 on: lead and continuation bytes in every order.
      id = static_cast<int32_t>(rng.next_below(4) == 0 ? rng.next_below(270)
                                                       : 0x80 + rng.next_below(128));
      const std::string piece = decoder.push(id);
      EXPECT_TRUE(is_valid_utf8(piece));
      text += piece;
    }
    text += decoder.flush();
    EXPECT_EQ(text, tokenizer.decode(ids, skip_special));
  }
}

Tokenizer sentencepiece() {
  return Tokenizer::from_json(test::tiny_sentencepiece_json().dump(), "tokenizer.json").value();
}

constexpr int32_t kBlank = 256;
constexpr int32_t kBlankHi = 257;
constexpr int32_t kX = 258;

TEST(StreamDecoder, StripsOneBlankAtTheStartOnly) {
  StreamDecoder decoder(sentencepiece(), false);
  EXPECT_EQ(decoder.push(kBlank), "");
  EXPECT_EQ(decoder.push(kBlank), " ");
  EXPECT_EQ(decoder.push(kBlankHi), " hi");
  EXPECT_EQ(decoder.flush(), "");
  EXPECT_EQ(decoder.push(kBlankHi), "hi");
  StreamDecoder bytes(sentencepiece(), false);
  EXPECT_EQ(bytes.push(' '), "");
  EXPECT_EQ(bytes.push('a'), "a");
}

TEST(StreamDecoder, GivesCharactersOfByteTokensWhenTheyAreComplete) {
  StreamDecoder decoder(sentencepiece(), false);
  EXPECT_EQ(decoder.push(0xC3), "");
  EXPECT_EQ(decoder.push(0xA9), "\u00E9");
  EXPECT_EQ(decoder.push(0xE2), "");
  EXPECT_EQ(decoder.push(0x82), "");
  EXPECT_EQ(decoder.push(kX), std::string(kReplacement) + kReplacement + "x");
}

TEST(StreamDecoder, ABadByteSpoilsTheByteTokensBehindIt) {
  StreamDecoder decoder(sentencepiece(), false);
  EXPECT_EQ(decoder.push('a'), "a");
  EXPECT_EQ(decoder.push(0xFF), kReplacement);
  EXPECT_EQ(decoder.push('b'), kReplacement);
  EXPECT_EQ(decoder.push(kX), "x");
  EXPECT_EQ(decoder.push('b'), "b");
  // Python, and decode, which know the whole run, replace its first byte too.
  const std::vector<int32_t> ids = {'a', 0xFF, 'b', kX};
  EXPECT_EQ(sentencepiece().decode(ids, false),
            std::string(kReplacement) + kReplacement + kReplacement + "x");
}

TEST(StreamDecoder, ByteTokensThatAreUtf8StreamAsTheyDecode) {
  const Tokenizer tokenizer = sentencepiece();
  const std::string text = "na\u00EFve \u6F22\U0001F600 x\uFFFD";
  const std::vector<int32_t> ids = tokenizer.encode(text);
  StreamDecoder decoder(tokenizer, false);
  std::string streamed;
  for (const int32_t id : ids) streamed += decoder.push(id);
  streamed += decoder.flush();
  EXPECT_EQ(streamed, text);
  EXPECT_EQ(tokenizer.decode(ids, false), text);
}

}  // namespace
}  // namespace comet::text
