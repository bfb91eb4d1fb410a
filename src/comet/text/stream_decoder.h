// Token ids -> text while they are generated, never a part of a character.
// One for each sequence; the engine's and the server's streams own it.
#pragma once

#include <cstdint>
#include <string>

#include "comet/text/tokenizer.h"

namespace comet::text {

class StreamDecoder {
 public:
  StreamDecoder(Tokenizer tokenizer, bool skip_special)
      : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}

  /// The text that this token completes, perhaps empty. What all pushes and the flush return, in
  /// order, is exactly Tokenizer::decode of all ids.
  std::string push(int32_t id);

  /// At the end: U+FFFD for a character that never was completed, else nothing. The decoder is then
  /// as fresh as a just made one.
  std::string flush();

 private:
  Tokenizer tokenizer_;
  bool skip_special_;
  std::string pending_;  // at most 3 bytes: the start of a character
};

}  // namespace comet::text
