// Prompts of an exact number of tokens, each a pure function of seed and index: random token ids,
// or text that the server's own /tokenize counts. Caller: the load generator.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comet/base/json.h"
#include "comet/client/load/target.h"

namespace comet::client {

struct PromptOptions {
  int64_t num_tokens = 0;
  uint64_t seed = 0;
  bool as_text = false;
  /// Random ids are from [first_id, end_id): above the special tokens that stand first, below the
  /// vocabulary's end, which a server does not tell.
  int64_t first_id = 300;
  int64_t end_id = 4000;
};

class PromptSource {
 public:
  /// As text, prompts of the first `num_texts` indices are made now, by the server's /tokenize and
  /// /detokenize, and used in turn.
  static Result<PromptSource> create(EventLoop& loop, const Target& target,
                                     const PromptOptions& options, int64_t num_texts);

  /// The "prompt" of request `index`: an array of ids, or a string.
  [[nodiscard]] Json prompt(uint64_t index) const;

 private:
  explicit PromptSource(const PromptOptions& options) : options_(options) {}

  PromptOptions options_;
  std::vector<std::string> texts_;
};

}  // namespace comet::client
