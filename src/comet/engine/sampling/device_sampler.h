// DeviceSampler: sample_token() for rows of logits that lie on a GPU, so that a step returns tokens
// and not logits. Caller: the engine, on its one thread. The same draws as sampler.h up to rounding
// of exp: another token only where two are within 1e-6 of each other.
#pragma once

#include <memory>
#include <span>

#include "comet/engine/sampling/sampler.h"
#include "comet/ops/context.h"

namespace comet::engine {

/// What one row of logits is asked for.
struct DeviceDraw {
  const SamplingParams* params = nullptr;
  SamplePoint point;
};

struct DrawnToken {
  int32_t token = -1;  // −1: a logit is NaN or infinite
  float logprob = 0;   // of the token, by the raw logits
};

class DeviceSampler {
 public:
  /// A CUDA context, which outlives this.
  explicit DeviceSampler(Context& ctx);
  DeviceSampler(const DeviceSampler&) = delete;
  DeviceSampler& operator=(const DeviceSampler&) = delete;
  ~DeviceSampler();

  /// Launches on the context's stream: a draw for every row of logits F32 [rows, vocab], which are
  /// edited in place. Allocates only while it grows. Then wait(), before the next start().
  void start(const Tensor& logits, std::span<const DeviceDraw> draws);
  /// The tokens, one per row, in device memory: valid on the stream after start().
  [[nodiscard]] const int32_t* device_tokens() const;
  /// Waits for the stream; the result is valid until the next start().
  std::span<const DrawnToken> wait();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace comet::engine
