// TokenCounts: which tokens a sequence has seen, for the sampler's penalties. Grows with the
// output.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>

#include "comet/engine/sampling/sampling_params.h"

namespace comet::engine {

class TokenCounts {
 public:
  void add_prompt(std::span<const int32_t> tokens) {
    for (const int32_t token : tokens) num_output_.try_emplace(token, 0);
  }
  void add_output(int32_t token) { ++num_output_[token]; }

  /// Changes the logits of the tokens seen: repetition over prompt and output (Keskar et al. 2019:
  /// positive logits are divided, others multiplied), then frequency and presence over the output
  /// (OpenAI: minus frequency · count and minus presence).
  void penalize(std::span<float> logits, const SamplingParams& params) const;

  /// Calls visit(token, times in the output) for every token seen, in no order.
  template <typename Visit>
  void for_each(const Visit& visit) const {
    for (const auto& [token, num_output] : num_output_) visit(token, num_output);
  }

 private:
  std::unordered_map<int32_t, int64_t> num_output_;  // of every token seen; 0: only in the prompt
};

/// Whether `params` look at the tokens seen at all.
bool has_penalties(const SamplingParams& params);

}  // namespace comet::engine
