#include "comet/text/stream_decoder.h"

#include <utility>

#include "comet/text/unicode/utf8.h"

namespace comet::text {

std::string StreamDecoder::push(int32_t id) {
  if (skip_special_ && tokenizer_.is_special(id)) return {};
  pending_ += tokenizer_.token_bytes(id);
  return take_complete_utf8(pending_);
}

std::string StreamDecoder::flush() { return replace_invalid_utf8(std::exchange(pending_, {})); }

}  // namespace comet::text
