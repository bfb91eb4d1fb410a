// From token ids to text: the decoder of a tokenizer.json, fed one token at a time, for whole texts
// and for streams. Callers: Tokenizer::decode and StreamDecoder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "comet/text/vocabulary.h"

namespace comet::text {

/// What the decoder does beyond joining the tokens' bytes.
struct DecoderRules {
  /// Byte tokens (<0xE2>) next to each other are characters together; else all bytes are.
  bool byte_fallback = false;
  /// At most so many of these are dropped from the start of the text (Strip).
  std::string strip;
  size_t max_strips = 0;
  /// The first token loses its blanks (Metaspace); it becomes what first_texts says, if anything.
  bool first_loses_blanks = false;
  std::unordered_map<int32_t, std::string> first_texts;
};

class TextDecoder {
 public:
  enum class Mode {
    kWhole,   // as Python: one bad byte makes U+FFFD of every byte token beside it
    kStream,  // the same, but a character is out once it is complete, whatever follows
  };

  /// Both must outlive the decoder.
  TextDecoder(const Vocabulary& vocabulary, const DecoderRules& rules, Mode mode)
      : vocabulary_(&vocabulary), rules_(&rules), mode_(mode) {}

  /// Appends the text that this token completes. An id that no token has is skipped.
  void push(int32_t id, std::string& out);
  /// Appends U+FFFD for what never was completed; the decoder is then as a just made one.
  void finish(std::string& out);

 private:
  void push_run_byte(std::string_view byte, std::string& out);
  void break_run(std::string& out);
  void end_run(std::string& out);
  void emit(std::string_view text, std::string& out);

  const Vocabulary* vocabulary_;
  const DecoderRules* rules_;
  Mode mode_;
  std::string pending_;         // bytes that are not yet characters
  bool run_is_broken_ = false;  // the byte tokens so far can form no text
  bool is_first_ = true;        // no token yet
  bool may_strip_ = true;       // nothing but what was stripped so far
  size_t num_stripped_ = 0;
};

}  // namespace comet::text
