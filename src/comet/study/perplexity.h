// Perplexity of documents, in the four ways people print it. Definitions: token_perplexity as
// docs/formats.md's tables use it; word, byte and bits-per-byte by lm-evaluation-harness's rolling
// rule; paper_perplexity as GPTQ-line papers print it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "comet/study/scorer.h"
#include "comet/text/tokenizer.h"

namespace comet::study {

/// A document: what is scored, and the text whose words and bytes are counted (the same but for
/// wikitext).
struct Document {
  std::string scored;
  std::string counted;
};

struct PerplexityOptions {
  int64_t max_length = 0;  // tokens of a window; 0: the model's context, at most 2,048
  int64_t num_tokens = 0;  // stop after so many targets; 0: all
  int64_t limit = 0;       // documents; 0: all
  /// Another model of the same vocabulary: how far the scored one is from it on the same tokens.
  const models::LlamaModel* base = nullptr;
};

/// One forward pass of a document's tokens: the unit of paired statistics. Two models of one
/// tokenizer, under the same options, have the same windows.
struct WindowScore {
  double log_prob_sum = 0;  // of the targets, natural logarithm
  int64_t num_tokens = 0;   // targets
  double kl_sum = 0;        // KL(base‖model) in nats; 0 without a base
  int64_t num_agree = 0;    // targets where both find the same token likeliest
};

struct PerplexityResult {
  double token_perplexity = 0;
  double token_perplexity_stderr = 0;  // over windows, by the delta method
  double word_perplexity = 0;          // only over whole documents: 0 when none was finished
  double byte_perplexity = 0;
  double bits_per_byte = 0;
  int64_t num_tokens = 0;
  int64_t num_documents = 0;
  double kl_mean = 0;  // nats a token; of a base only, like the two below
  double kl_stderr = 0;
  double top1_agreement = 0;
  std::vector<WindowScore> windows;
};

/// Documents separated by lines `<|endoftext|>`; empty ones are left out.
std::vector<Document> split_documents(std::string_view text);
/// The articles of wiki.test.raw, scored in detokenized form.
std::vector<Document> wikitext_documents(std::string_view text);

/// Each document is encoded with BOS and cut into windows; window j reads tokens [jL, (j+1)L) and
/// predicts the one behind each, so every token but BOS is a target exactly once.
/// `on_progress` gets the number of targets done.
Result<PerplexityResult> perplexity(Context& ctx, const models::LlamaModel& model,
                                    const text::Tokenizer& tokenizer,
                                    const std::vector<Document>& documents,
                                    const PerplexityOptions& options,
                                    const std::function<void(int64_t)>& on_progress);

/// The whole text as one encoding in windows of 2,048 tokens (or the context, if smaller), each
/// without what precedes it.
Result<double> paper_perplexity(Context& ctx, const models::LlamaModel& model,
                                const text::Tokenizer& tokenizer, std::string_view text,
                                int64_t num_tokens);

}  // namespace comet::study
