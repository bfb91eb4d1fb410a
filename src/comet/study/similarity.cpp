#include "comet/study/similarity.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "comet/engine/engine.h"
#include "comet/nn/token_scores.h"
#include "comet/study/rouge.h"

namespace comet::study {
namespace {

Result<std::vector<int32_t>> continue_greedily(engine::Engine& engine,
                                               const std::vector<int32_t>& prompt,
                                               const SimilarityOptions& options) {
  std::vector<int32_t> tokens;
  bool failed = false;
  engine::Request request;
  request.prompt = prompt;
  request.max_tokens = options.max_tokens;
  request.stop_tokens = options.stop_tokens;
  request.on_event = [&](const engine::TokenEvent& event) {
    if (event.token >= 0) tokens.push_back(event.token);
    failed = failed || event.finish == engine::FinishReason::kError;
    return true;
  };
  auto id = engine.submit(std::move(request));
  if (!id) return id.error();
  while (engine.step()) {}
  if (failed) return make_error(ErrorCode::kCorrupt, "the model's activations became NaN");
  return tokens;
}

struct PromptScore {
  double kl_sum = 0;
  int64_t num_agree = 0;
};

/// Both models read prompt and continuation; the rows that predict the continuation are compared.
PromptScore score_continuation(Scorer& base, Scorer& candidate, const std::vector<int32_t>& prompt,
                               const std::vector<int32_t>& continuation) {
  std::vector<int32_t> tokens = prompt;
  tokens.insert(tokens.end(), continuation.begin(), continuation.end() - 1);
  const auto first_row = static_cast<int64_t>(prompt.size()) - 1;
  std::vector<double> kl(continuation.size());
  std::vector<int8_t> agree(continuation.size());
  Scorer::for_each_row_pair(
      base, candidate, tokens, first_row,
      [&](int64_t i, std::span<const float> expected, std::span<const float> given) {
        kl[i - first_row] = nn::kl_divergence(expected, given);
        agree[i - first_row] = likeliest_token(expected) == likeliest_token(given) ? 1 : 0;
      });
  PromptScore score;
  for (const double value : kl) score.kl_sum += value;
  for (const int8_t value : agree) score.num_agree += value;
  return score;
}

int64_t first_divergence(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  const auto [at, other] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return at - a.begin();
}

/// Σ values / Σ weights, with the standard error of that ratio over prompts: of a plain mean where
/// every weight is 1.
SimilarityMean ratio_mean(const std::vector<double>& values, const std::vector<double>& weights) {
  SimilarityMean mean;
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  mean.value = std::accumulate(values.begin(), values.end(), 0.0) / total;
  if (values.size() < 2) return mean;
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double residual = values[i] - mean.value * weights[i];
    sum += residual * residual;
  }
  const auto n = static_cast<double>(values.size());
  mean.std_error = std::sqrt(sum * n / (n - 1)) / total;
  return mean;
}

/// What one prompt gives to each mean.
struct PromptFigures {
  std::vector<double> one;  // per prompt
  std::vector<double> tokens;
  std::vector<double> rouge1;
  std::vector<double> rouge_l;
  std::vector<double> exact;
  std::vector<double> divergence;
  std::vector<double> kl_sum;
  std::vector<double> num_agree;
};

void add_texts(const TextPair& pair, PromptFigures& figures) {
  const bool no_words = rouge_words(pair.base).empty() && rouge_words(pair.candidate).empty();
  const RougeScore score = no_words ? RougeScore{1, 1} : rouge(pair.base, pair.candidate);
  figures.rouge1.push_back(score.rouge1);
  figures.rouge_l.push_back(score.rouge_l);
}

}  // namespace

int64_t likeliest_token(std::span<const float> logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

Result<Similarity> compare_models(Context& ctx, const models::LlamaModel& base,
                                  const models::LlamaModel& candidate,
                                  const std::vector<std::vector<int32_t>>& prompts,
                                  const SimilarityOptions& options,
                                  const std::function<void()>& on_prompt) {
  if (base.config().vocab_size != candidate.config().vocab_size) {
    return make_error(
        ErrorCode::kInvalidArgument,
        "the models' vocabularies have {} and {} tokens; compare needs one vocabulary",
        base.config().vocab_size, candidate.config().vocab_size);
  }
  if (prompts.empty()) return make_error(ErrorCode::kInvalidArgument, "there is no prompt");
  size_t longest = 0;
  for (const auto& prompt : prompts) longest = std::max(longest, prompt.size());
  const int64_t context =
      std::min(base.config().max_position_embeddings, candidate.config().max_position_embeddings);
  const int64_t room = std::min(context, static_cast<int64_t>(longest) + options.max_tokens);
  engine::EngineOptions engine_options;
  engine_options.limits.max_seqs = 1;
  engine_options.max_model_len = room;
  auto base_engine = engine::Engine::create(ctx, base, engine_options);
  if (!base_engine) return base_engine.error();
  auto candidate_engine = engine::Engine::create(ctx, candidate, engine_options);
  if (!candidate_engine) return candidate_engine.error();
  auto base_scorer = Scorer::create(ctx, base, room);
  if (!base_scorer) return base_scorer.error();
  auto candidate_scorer = Scorer::create(ctx, candidate, room);
  if (!candidate_scorer) return candidate_scorer.error();

  Similarity result;
  PromptFigures figures;
  for (const std::vector<int32_t>& prompt : prompts) {
    const auto expected = continue_greedily(**base_engine, prompt, options);
    if (!expected) return expected.error();
    const auto given = continue_greedily(**candidate_engine, prompt, options);
    if (!given) return given.error();
    const PromptScore score =
        score_continuation(**base_scorer, **candidate_scorer, prompt, *expected);
    figures.one.push_back(1);
    figures.tokens.push_back(static_cast<double>(expected->size()));
    figures.exact.push_back(*expected == *given ? 1 : 0);
    figures.divergence.push_back(static_cast<double>(first_divergence(*expected, *given)));
    figures.kl_sum.push_back(score.kl_sum);
    figures.num_agree.push_back(static_cast<double>(score.num_agree));
    result.texts.push_back({options.decode(*expected), options.decode(*given)});
    add_texts(result.texts.back(), figures);
    result.num_tokens += static_cast<int64_t>(expected->size());
    on_prompt();
  }
  result.num_prompts = static_cast<int64_t>(prompts.size());
  result.rouge1 = ratio_mean(figures.rouge1, figures.one);
  result.rouge_l = ratio_mean(figures.rouge_l, figures.one);
  result.exact_match = ratio_mean(figures.exact, figures.one);
  result.first_divergence = ratio_mean(figures.divergence, figures.one);
  result.kl = ratio_mean(figures.kl_sum, figures.tokens);
  result.top1_agreement = ratio_mean(figures.num_agree, figures.tokens);
  return result;
}

}  // namespace comet::study
