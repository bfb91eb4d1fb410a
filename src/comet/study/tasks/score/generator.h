// Greedy continuations, lm-evaluation-harness's `generate_until`: text up to the first stop string,
// an end token or max_tokens. Caller: the task runner.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comet/engine/engine.h"

namespace comet::study {

struct GenerationRequest {
  std::vector<int32_t> prompt;
  int64_t max_tokens = 0;
};

/// The prompt's last tokens and how many may follow: lm-eval keeps max_length − max_tokens of
/// the prompt. Where that is less than half, a continuation gets what the prompt leaves, half at
/// least.
GenerationRequest encode_prompt(const text::Tokenizer& tokenizer, std::string_view prompt,
                                int64_t max_tokens, int64_t max_length, bool add_bos);

class Generator {
 public:
  static Result<std::unique_ptr<Generator>> create(Context& ctx, const models::LlamaModel& model,
                                                   const text::Tokenizer& tokenizer,
                                                   int64_t max_length,
                                                   std::vector<int32_t> eos_tokens);

  /// Texts in the order of the requests.
  Result<std::vector<std::string>> generate(std::span<const GenerationRequest> requests,
                                            std::span<const std::string_view> stops);

 private:
  explicit Generator(std::unique_ptr<engine::Engine> engine) : engine_(std::move(engine)) {}

  std::unique_ptr<engine::Engine> engine_;
};

}  // namespace comet::study
