// How alike two models of one vocabulary speak: the candidate beside the base, prompt by prompt.
// Callers: compare, perplexity. Every mean is over prompts or over all tokens of the base's
// continuations.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "comet/study/scorer.h"

namespace comet::study {

/// A mean over prompts, or over tokens with prompts as the independent units.
struct SimilarityMean {
  double value = 0;
  double std_error = 0;  // 0 of one prompt
};

/// Both continuations of one prompt.
struct TextPair {
  std::string base;
  std::string candidate;
};

struct Similarity {
  SimilarityMean rouge1;  // F1, as rouge.h; two continuations without a word are alike: 1
  SimilarityMean rouge_l;
  SimilarityMean exact_match;       // share of prompts whose greedy continuations are equal
  SimilarityMean first_divergence;  // tokens before the first unequal one; the length when equal
  SimilarityMean kl;              // KL(base‖candidate), nats a token, over the base's continuation
  SimilarityMean top1_agreement;  // share of those tokens with the same likeliest token
  int64_t num_prompts = 0;
  int64_t num_tokens = 0;
  std::vector<TextPair> texts;
};

struct SimilarityOptions {
  int64_t max_tokens = 128;          // of a continuation
  std::vector<int32_t> stop_tokens;  // end a continuation
  /// A continuation's text, for ROUGE.
  std::function<std::string(const std::vector<int32_t>&)> decode;
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
