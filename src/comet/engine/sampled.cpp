#include "comet/engine/sampled.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace comet::engine {
namespace {

bool all_finite(std::span<const float> row) {
  bool finite = true;
  for (const float x : row) finite &= std::abs(x) <= std::numeric_limits<float>::max();
  return finite;
}

}  // namespace

SamplePoint sample_point(const Sequence& seq) {
  SamplePoint point{.counts = seq.counts, .position = seq.tokens.size()};
  if (seq.num_output() < seq.request.min_tokens) point.forbidden = seq.end_tokens;
  return point;
}

Sampled sample_row(const Sequence& seq, int64_t position, std::span<const float> logits,
                   SamplerScratch& scratch) {
  Sampled result;
  if (!all_finite(logits)) {
    result.failed = true;
    return result;
  }
  const Request& request = seq.request;
  const int64_t num_top = std::max<int64_t>(0, request.num_logprobs);
  if (position + 1 < seq.state.num_known) {
    result.logprobs = position_logprobs(logits, seq.tokens[position + 1], num_top);
    return result;
  }
  if (request.max_tokens == 0) return result;
  result.token = sample_token(logits, request.sampling, sample_point(seq), scratch);
  if (request.num_logprobs >= 0) {
    result.logprobs = position_logprobs(logits, result.token, num_top);
  }
  return result;
}

}  // namespace comet::engine
