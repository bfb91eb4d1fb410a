#include "comet/engine/sequence.h"

#include <algorithm>

namespace comet::engine {

bool Sequence::is_end_token(int32_t token) const {
  return std::find(end_tokens.begin(), end_tokens.end(), token) != end_tokens.end();
}

}  // namespace comet::engine
