// Scorer: log-probabilities that a model gives to the tokens of a text. Callers: perplexity,
// quant's report, compare.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "comet/models/llama.h"

namespace comet::study {

class Scorer {
 public:
  /// Room for windows of at most `max_length` tokens.
  static Result<std::unique_ptr<Scorer>> create(Context& ctx, const models::LlamaModel& model,
                                                int64_t max_length);

  /// log p(tokens[i + 1] | tokens[0..i]) for each i ≥ 0, natural logarithm; tokens.size() ≤
  /// max_length + 1: the last token is only a target.
  std::vector<double> log_probs(std::span<const int32_t> tokens);

  /// Calls visit(i, logits [vocab]) for the rows i ≥ first_row of tokens[0..i], several at a time
  /// on the pool's threads; tokens.size() ≤ max_length.
  void for_each_row(std::span<const int32_t> tokens, int64_t first_row,
                    const std::function<void(int64_t, std::span<const float>)>& visit);

  /// The same of two models of one vocabulary side by side: visit(i, base logits, candidate
  /// logits). Holds the logits of a few hundred rows at a time.
  static void for_each_row_pair(
      Scorer& base, Scorer& candidate, std::span<const int32_t> tokens, int64_t first_row,
      const std::function<void(int64_t, std::span<const float>, std::span<const float>)>& visit);

 private:
  /// Appends tokens[begin, begin + count) to the cache; their logits from row begin + skipped on.
  Tensor forward_chunk(std::span<const int32_t> tokens, int64_t begin, int64_t count,
                       int64_t skipped);

  Scorer(Context& ctx, const models::LlamaModel& model, int64_t max_length, kv::KvCache cache);

  Context& ctx_;
  const models::LlamaModel& model_;
  int64_t max_length_;
  kv::KvCache cache_;
  std::vector<int32_t> block_table_;
};

}  // namespace comet::study
