// How alike two models of one vocabulary speak: the candidate beside the base, prompt by prompt.
// Callers: compare, perplexity. Every mean is over prompts or over all tokens of the base's
// continuations.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "comet/study/scorer.h"

namespace comet::study {

struct Similarity {
  double exact_match = 0;            // share of prompts whose greedy continuations are equal
  double first_divergence_mean = 0;  // tokens before the first unequal one; the length when equal
  double kl_mean = 0;         // KL(base‖candidate), nats a token, over the base's continuation
  double kl_stderr = 0;       // over prompts
  double top1_agreement = 0;  // share of those tokens with the same likeliest token
  int64_t num_prompts = 0;
  int64_t num_tokens = 0;
};

struct SimilarityOptions {
  int64_t max_tokens = 128;          // of a continuation
  std::vector<int32_t> stop_tokens;  // end a continuation
};

/// Greedy continuations of both models and the base's continuation teacher-forced through both.
/// `on_prompt` is called after each prompt.
Result<Similarity> compare_models(Context& ctx, const models::LlamaModel& base,
                                  const models::LlamaModel& candidate,
                                  const std::vector<std::vector<int32_t>>& prompts,
                                  const SimilarityOptions& options,
                                  const std::function<void()>& on_prompt);

/// The first of the largest.
int64_t likeliest_token(std::span<const float> logits);

}  // namespace comet::study
