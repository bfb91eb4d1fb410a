#include "comet/study/perplexity.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "comet/nn/token_scores.h"
#include "comet/study/similarity.h"

namespace comet::study {
namespace {

constexpr int64_t kDefaultMaxLength = 2048;
constexpr int64_t kPaperWindow = 2048;

int64_t window_length(const models::LlamaModel& model, int64_t wanted, int64_t fallback) {
  return std::min(wanted > 0 ? wanted : fallback, model.config().max_position_embeddings);
}

/// Pieces of a split at runs of white space, the empty ones at the ends included (Python's
/// re.split).
int64_t count_words(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  int64_t words = 1;
  for (size_t i = 0; i < text.size(); ++i) {
    words += is_space(text[i]) && (i == 0 || !is_space(text[i - 1])) ? 1 : 0;
  }
  return words;
}

/// Scores windows by one model, and beside it a base where there is one.
class WindowScorer {
 public:
  static Result<WindowScorer> create(Context& ctx, const models::LlamaModel& model,
                                     const models::LlamaModel* base, int64_t length) {
    WindowScorer result;
    auto scorer = Scorer::create(ctx, model, length);
    if (!scorer) return scorer.error();
    result.scorer_ = *std::move(scorer);
    if (base == nullptr) return result;
    const int64_t vocab_size = model.config().vocab_size;
    if (base->config().vocab_size != vocab_size ||
        base->config().max_position_embeddings < length) {
      return make_error(ErrorCode::kInvalidArgument,
                        "the base has {} tokens of vocabulary and a context of {}; expected {} and "
                        "at least {}",
                        base->config().vocab_size, base->config().max_position_embeddings,
                        vocab_size, length);
    }
    auto base_scorer = Scorer::create(ctx, *base, length);
    if (!base_scorer) return base_scorer.error();
    result.base_ = *std::move(base_scorer);
    return result;
  }

  std::vector<double> log_probs(std::span<const int32_t> tokens) {
    return scorer_->log_probs(tokens);
  }

  /// Every token but the first is a target.
  WindowScore score(std::span<const int32_t> tokens) {
    WindowScore window;
    window.num_tokens = static_cast<int64_t>(tokens.size()) - 1;
    std::vector<double> log_probs(tokens.size() - 1);
    if (base_ == nullptr) {
      log_probs = scorer_->log_probs(tokens);
    } else {
      std::vector<double> kl(log_probs.size());
      std::vector<int8_t> agree(log_probs.size());
      const auto visit = [&](int64_t i, std::span<const float> expected,
                             std::span<const float> given) {
        log_probs[i] = nn::log_probability(given, tokens[i + 1]);
        kl[i] = nn::kl_divergence(expected, given);
        agree[i] = likeliest_token(expected) == likeliest_token(given) ? 1 : 0;
      };
      Scorer::for_each_row_pair(*base_, *scorer_, tokens.first(log_probs.size()), 0, visit);
      window.kl_sum = std::accumulate(kl.begin(), kl.end(), 0.0);
      window.num_agree = std::accumulate(agree.begin(), agree.end(), int64_t{0});
    }
    window.log_prob_sum = std::accumulate(log_probs.begin(), log_probs.end(), 0.0);
    return window;
  }

 private:
  WindowScorer() = default;
  std::unique_ptr<Scorer> scorer_;
  std::unique_ptr<Scorer> base_;
};

/// lm-evaluation-harness's rolling rule: a last window that is not full keeps as much context as a
/// full one holds, so its `count` targets are read once more behind the tokens before them.
double last_rolling_window(WindowScorer& scorer, std::span<const int32_t> tokens, int64_t length,
                           int64_t count) {
  const std::vector<double> log_probs = scorer.log_probs(tokens.last(length + 1));
  return std::accumulate(log_probs.end() - count, log_probs.end(), 0.0);
}

/// Standard error of Σ value / Σ num_tokens over windows of unequal size (ratio estimator).
double ratio_stderr(const std::vector<WindowScore>& windows, double WindowScore::* value,
                    double mean, int64_t num_tokens) {
  if (windows.size() < 2) return 0;
  double sum = 0;
  for (const WindowScore& w : windows) {
    const double residual = w.*value - mean * static_cast<double>(w.num_tokens);
    sum += residual * residual;
  }
  const auto n = static_cast<double>(windows.size());
  return std::sqrt(sum * n / (n - 1)) / static_cast<double>(num_tokens);
}

/// The figures that are means over all targets.
void finish(PerplexityResult& result) {
  double log_prob_sum = 0;
  int64_t num_agree = 0;
  for (const WindowScore& window : result.windows) {
    log_prob_sum += window.log_prob_sum;
    result.kl_mean += window.kl_sum;
    num_agree += window.num_agree;
  }
  const auto n = static_cast<double>(result.num_tokens);
  const double mean = log_prob_sum / n;
  result.token_perplexity = std::exp(-mean);
  result.token_perplexity_stderr =  // delta method
      result.token_perplexity *
      ratio_stderr(result.windows, &WindowScore::log_prob_sum, mean, result.num_tokens);
  result.kl_mean /= n;
  result.kl_stderr =
      ratio_stderr(result.windows, &WindowScore::kl_sum, result.kl_mean, result.num_tokens);
  result.top1_agreement = static_cast<double>(num_agree) / n;
}

}  // namespace

std::vector<Document> split_documents(std::string_view text) {
  constexpr std::string_view kSeparator = "<|endoftext|>";
  std::vector<Document> documents;
  std::string current;
  const auto flush = [&] {
    while (!current.empty() && current.back() == '\n') current.pop_back();
    if (!current.empty()) documents.push_back({current, current});
    current.clear();
  };
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1);
    const std::string_view line = text.substr(0, end + 1);
    text.remove_prefix(end + 1);
    const size_t length = line.find_last_not_of("\r\n") + 1;
    if (line.substr(0, length) == kSeparator) {
      flush();
    } else {
      current += line;
    }
  }
  flush();
  return documents;
}

Result<PerplexityResult> perplexity(Context& ctx, const models::LlamaModel& model,
                                    const text::Tokenizer& tokenizer,
                                    const std::vector<Document>& documents,
                                    const PerplexityOptions& options,
                                    const std::function<void(int64_t)>& on_progress) {
  const int64_t length = window_length(model, options.max_length, kDefaultMaxLength);
  auto scorer = WindowScorer::create(ctx, model, options.base, length);
  if (!scorer) return scorer.error();
  PerplexityResult result;
  double whole_nll = 0;
  int64_t words = 0;
  int64_t bytes = 0;
  const int64_t max_targets = options.num_tokens > 0 ? options.num_tokens : INT64_MAX;
  for (const Document& document : documents) {
    if (result.num_tokens >= max_targets) break;
    if (options.limit > 0 && result.num_documents >= options.limit) break;
    const std::vector<int32_t> tokens = tokenizer.encode(document.scored);
    const auto num_targets = static_cast<int64_t>(tokens.size()) - 1;
    double document_nll = 0;
    int64_t done = 0;
    while (done < num_targets && result.num_tokens < max_targets) {
      const int64_t count = std::min({length, num_targets - done, max_targets - result.num_tokens});
      const WindowScore window = scorer->score(std::span(tokens).subspan(done, count + 1));
      if (!std::isfinite(window.log_prob_sum) || !std::isfinite(window.kl_sum)) {
        return make_error(ErrorCode::kCorrupt,
                          "document {}: the model gives NaN or zero probability around token {}",
                          result.num_documents, done);
      }
      result.windows.push_back(window);
      document_nll -= done > 0 && count < length && done + count == num_targets
                          ? last_rolling_window(*scorer, tokens, length, count)
                          : window.log_prob_sum;
      done += count;
      result.num_tokens += count;
      on_progress(result.num_tokens);
    }
    ++result.num_documents;
    if (done == num_targets) {
      whole_nll += document_nll;
      words += count_words(document.counted);
      bytes += static_cast<int64_t>(document.counted.size());
    }
  }
  if (result.num_tokens == 0) {
    return make_error(ErrorCode::kInvalidArgument, "the text holds no token to predict");
  }
  finish(result);
  if (bytes > 0) {
    result.word_perplexity = std::exp(whole_nll / static_cast<double>(words));
    result.byte_perplexity = std::exp(whole_nll / static_cast<double>(bytes));
    result.bits_per_byte = whole_nll / static_cast<double>(bytes) / std::log(2.0);
  }
  return result;
}

Result<double> paper_perplexity(Context& ctx, const models::LlamaModel& model,
                                const text::Tokenizer& tokenizer, std::string_view text,
                                int64_t num_tokens) {
  const int64_t length = window_length(model, kPaperWindow, kPaperWindow);
  auto scorer = Scorer::create(ctx, model, length);
  if (!scorer) return scorer.error();
  const std::vector<int32_t> tokens = tokenizer.encode(text);
  const auto available = static_cast<int64_t>(tokens.size());
  const int64_t used = num_tokens > 0 ? std::min(num_tokens, available) : available;
  double nll = 0;
  int64_t num_targets = 0;
  for (int64_t begin = 0; begin + length <= used; begin += length) {
    const auto scores = (*scorer)->log_probs(std::span(tokens).subspan(begin, length));
    nll -= std::accumulate(scores.begin(), scores.end(), 0.0);
    num_targets += static_cast<int64_t>(scores.size());
  }
  if (num_targets == 0) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the text has {} tokens, less than one window of {}", available, length);
  }
  return std::exp(nll / static_cast<double>(num_targets));
}

}  // namespace comet::study
