// Sampling of one token from logits. Deterministic per request: the random draw depends only on the
// request's seed and the token's position, never on the batch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comet/engine/sampling/sampling_params.h"
#include "comet/engine/sampling/token_counts.h"

namespace comet::engine {

/// Buffers of one thread, kept from call to call.
struct SamplerScratch {
  struct Candidate {
    float logit;
    int32_t token;
  };
  std::vector<float> logits;  // with bias and penalties
  std::vector<float> weights;
  std::vector<Candidate> candidates;
  std::vector<float> kept_weights;
};

/// Where in its sequence a token is drawn.
struct SamplePoint {
  const TokenCounts& counts;
  std::span<const int32_t> forbidden = {};  // tokens that may not come; strange ids are ignored
  uint64_t position = 0;                    // tokens before this one
};

/// First `forbidden` and logit_bias, then repetition, frequency and presence penalty (vLLM's
/// order); then temperature, top-k, top-p, min-p (transformers' order), ties by token id. Logits
/// are finite.
int32_t sample_token(std::span<const float> logits, const SamplingParams& params,
                     const SamplePoint& point, SamplerScratch& scratch);

}  // namespace comet::engine
