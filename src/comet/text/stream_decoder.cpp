#include "comet/text/stream_decoder.h"

#include <utility>

#include "comet/text/tokenizer_parts.h"

namespace comet::text {

StreamDecoder::StreamDecoder(Tokenizer tokenizer, bool skip_special)
    : tokenizer_(std::move(tokenizer)),
      skip_special_(skip_special),
      decoder_(tokenizer_.parts_->vocabulary, tokenizer_.parts_->decoder,
               TextDecoder::Mode::kStream) {}

std::string StreamDecoder::push(int32_t id) {
  std::string text;
  if (!skip_special_ || !tokenizer_.is_special(id)) decoder_.push(id, text);
  return text;
}

std::string StreamDecoder::flush() {
  std::string text;
  decoder_.finish(text);
  return text;
}

}  // namespace comet::text
