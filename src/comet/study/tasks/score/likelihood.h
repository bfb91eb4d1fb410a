// Log-likelihoods of continuations, lm-evaluation-harness's `loglikelihood`: many requests at once
// in ragged batches. The requests of a document share what their prompts have in common; neither
// that nor the batch or the threads change a bit of an answer. Caller: the task runner.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "comet/models/llama.h"
#include "comet/text/tokenizer.h"

namespace comet::study {

struct LikelihoodRequest {
  std::vector<int32_t> tokens;  // prompt and continuation
  int64_t num_prompt = 0;       // ≥ 1

  [[nodiscard]] int64_t num_targets() const {
    return static_cast<int64_t>(tokens.size()) - num_prompt;
  }
};

struct Likelihood {
  double log_prob = 0;    // of the continuation, natural logarithm
  bool is_greedy = true;  // every token of it is the likeliest
};

/// lm-eval's _encode_pair: white space at the prompt's end goes to the continuation; what the whole
/// has behind as many tokens as the prompt alone gives is the continuation. An empty prompt is
/// `prefix_token`. At most the last max_length tokens are kept, and one of the prompt. `add_bos`:
/// with the special tokens that the tokenizer puts in front.
struct EncodeRules {
  int32_t prefix_token = 0;
  int64_t max_length = 0;
  bool add_bos = false;
};
LikelihoodRequest encode_pair(const text::Tokenizer& tokenizer, std::string_view prompt,
                              std::string_view continuation, const EncodeRules& rules);

class LikelihoodScorer {
 public:
  /// Room for requests of at most `max_length` tokens.
  static Result<std::unique_ptr<LikelihoodScorer>> create(Context& ctx,
                                                          const models::LlamaModel& model,
                                                          int64_t max_length);

  /// Answers in the order of the requests. Each group's requests share prompts (a document's
  /// choices). kCorrupt when the model gives NaN.
  using Group = std::vector<LikelihoodRequest>;
  Result<std::vector<std::vector<Likelihood>>> score(std::span<const Group> groups);

 private:
  struct Step;
  LikelihoodScorer(Context& ctx, const models::LlamaModel& model, int64_t max_length,
                   kv::KvCache cache);
  [[nodiscard]] Step plan(std::span<const LikelihoodRequest> requests,
                          std::span<Likelihood> answers) const;
  Status run(const Step& step);

  Context& ctx_;
  const models::LlamaModel& model_;
  int64_t max_length_;
  kv::KvCache cache_;
};

}  // namespace comet::study
