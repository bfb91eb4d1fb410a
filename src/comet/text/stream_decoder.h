// Token ids -> text while they are generated, never a part of a character.
// One for each sequence; the engine's and the server's streams own it.
#pragma once

#include <cstdint>
#include <string>

#include "comet/text/decoder.h"
#include "comet/text/tokenizer.h"

namespace comet::text {

class StreamDecoder {
 public:
  StreamDecoder(Tokenizer tokenizer, bool skip_special);

  /// The text that this token completes, perhaps empty; always valid UTF-8. What all pushes and the
  /// flush return, in order, is Tokenizer::decode of all ids. One exception, for byte fallback: of
  /// byte tokens in a row of which some are no UTF-8, decode replaces all; here the characters that
  /// were complete before the first bad byte are out already.
  std::string push(int32_t id);

  /// At the end: U+FFFD for what never was completed, else nothing. The decoder is then as fresh as
  /// a just made one.
  std::string flush();

 private:
  Tokenizer tokenizer_;  // keeps alive what decoder_ points to
  bool skip_special_;
  TextDecoder decoder_;
};

}  // namespace comet::text
