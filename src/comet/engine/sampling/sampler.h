// Sampling of one token from logits. Deterministic per request: the random draw depends only on the
// request's seed and the token's position, never on the batch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace comet::engine {

struct SamplingParams {
  double temperature = 0.0;  // 0: greedy
  int64_t top_k = 0;         // 0: off
  double top_p = 1.0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;  // Keskar et al. 2019: over prompt and output
  uint64_t seed = 0;
};

/// `history` is prompt and output so far. `logits` is scratch: it is changed. Order as
/// transformers: repetition penalty, temperature, top-k, top-p, min-p.
int32_t sample_token(std::span<float> logits, const SamplingParams& params,
                     std::span<const int32_t> history);

}  // namespace comet::engine
