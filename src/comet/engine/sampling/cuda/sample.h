// Sampling on the GPU: a token and its log-probability from each row of logits, by the definition
// of engine/README.md ("Order of a draw") and with the CPU sampler's random bits. Callers:
// device_sampler_cuda.cpp and tests. Pointers are device pointers; launches throw CudaError.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace comet::engine {

/// How one row is drawn.
struct SampleRow {
  double top_p = 1.0;               // 1: off
  double repetition_penalty = 1.0;  // these three: of the row's edits with num_output ≥ 0
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  uint64_t seed = 0;
  uint64_t counter = 0;     // tokens before this one
  float scale = 0;          // float(1 / temperature); 0: greedy
  float min_p = 0;          // 0: off
  int32_t top_k = 0;        // 0: off
  int32_t edits_begin = 0;  // the row's part of the edits
  int32_t edits_end = 0;
};

/// What a request changes at one token's logit; at most one per row and token.
struct SampleEdit {
  int32_t token = 0;  // ids outside of the vocabulary are ignored
  float bias = 0;
  int32_t num_output = -1;  // times in the output; −1: not seen, so no penalties
  int32_t is_forbidden = 0;
};

struct SampleArgs {
  float* logits = nullptr;  // [rows, vocab], edited in place
  int64_t stride = 0;       // elements
  int32_t rows = 0;
  int32_t vocab = 0;  // 1 … 2^18
  const SampleRow* params = nullptr;
  const SampleEdit* edits = nullptr;
  int32_t num_edits = 0;
  bool has_draws = true;  // whether any row may have scale > 0
  void* workspace = nullptr;
  int32_t* tokens = nullptr;  // [rows]; −1: a raw logit is NaN or infinite
  float* logprobs = nullptr;  // [rows] of the tokens, by the raw logits; NaN where the token is −1
};

constexpr int32_t kMaxSampleVocab = 1 << 18;

/// 16-byte aligned memory that launch_sample needs.
int64_t sample_workspace_bytes(int32_t rows, int32_t vocab, int32_t num_edits);
/// A row's result depends on its own logits, parameters and edits only.
void launch_sample(const SampleArgs& args, CUstream_st* stream);

}  // namespace comet::engine
