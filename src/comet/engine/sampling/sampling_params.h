// SamplingParams: how a token is drawn from logits. Part of a Request; read by the sampler.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace comet::engine {

struct SamplingParams {
  double temperature = 0.0;         // 0: greedy
  int64_t top_k = 0;                // 0: off
  double top_p = 1.0;               // (0, 1]
  double min_p = 0.0;               // [0, 1]
  double repetition_penalty = 1.0;  // > 0; Keskar et al. 2019: over prompt and output
  double presence_penalty = 0.0;    // over the output, as OpenAI's
  double frequency_penalty = 0.0;   // over the output, as OpenAI's
  std::vector<std::pair<int32_t, float>> logit_bias = {};  // token, added to its logit
  uint64_t seed = 0;
};

}  // namespace comet::engine
