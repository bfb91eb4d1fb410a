// Sampled: what a row of logits became. Filled by the compute threads, published by the engine's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "comet/engine/sampling/logprobs.h"
#include "comet/engine/sampling/sampler.h"
#include "comet/engine/sequence.h"

namespace comet::engine {

struct Sampled {
  bool failed = false;                       // a logit is NaN or infinite
  int32_t token = -1;                        // −1: a row inside the prompt, or no token is wanted
  std::optional<PositionLogprobs> logprobs;  // of the token, or inside the prompt of its next one
};

/// Where the next token of `seq` is drawn.
SamplePoint sample_point(const Sequence& seq);

/// Of the logits behind `position` of `seq`, which is not changed.
Sampled sample_row(const Sequence& seq, int64_t position, std::span<const float> logits,
                   SamplerScratch& scratch);

}  // namespace comet::engine
