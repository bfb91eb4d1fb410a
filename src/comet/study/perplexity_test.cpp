#include "comet/study/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <sstream>

#include "comet/models/load.h"
#include "comet/nn/token_scores.h"
#include "comet/study/similarity.h"

namespace comet::study {
namespace {

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class DemoModel : public testing::Test {
 protected:
  void SetUp() override {
    runtime_ = Runtime::cpu(detect_cpu_isa(), 2);
    checkpoint_.emplace(io::Checkpoint::open(COMET_SOURCE_DIR "/models/demo").value());
    model_ = models::load_model(runtime_->context(), *checkpoint_, "").value();
    tokenizer_.emplace(
        text::Tokenizer::from_json(read_text(COMET_SOURCE_DIR "/models/demo/tokenizer.json"),
                                   "tokenizer.json")
            .value());
  }

  PerplexityResult run(const std::vector<Document>& documents, const PerplexityOptions& options) {
    return perplexity(runtime_->context(), *model_, *tokenizer_, documents, options, [](int64_t) {})
        .value();
  }

  std::unique_ptr<Runtime> runtime_;
  std::optional<io::Checkpoint> checkpoint_;
  std::unique_ptr<models::LlamaModel> model_;
  std::optional<text::Tokenizer> tokenizer_;
};

TEST(SplitDocuments, CutsAtSeparatorLinesOnly) {
  const auto documents =
      split_documents("one\ntwo\n<|endoftext|>\n\n<|endoftext|>\nx <|endoftext|>\nlast");
  ASSERT_EQ(documents.size(), 2U);
  EXPECT_EQ(documents[0].scored, "one\ntwo");
  EXPECT_EQ(documents[1].scored, "x <|endoftext|>\nlast");
  EXPECT_TRUE(split_documents("").empty());
}

TEST(Wikitext, ArticlesAreCutAndDetokenized) {
  const auto documents = wikitext_documents(
      " \n = Title One = \n \n The 3 @.@ 5 @-@ year plan ( see \" A b \" ) , 's end . \n"
      " = = Section = = \n \n Text \n = Second = \n \n More\n");
  ASSERT_EQ(documents.size(), 2U);
  // What Python's rules of lm-evaluation-harness make of it.
  EXPECT_EQ(documents[0].scored,
            " = Title One =\n\nThe 3.5-year plan (see \"A b\"),'s end.\n== Section ==\n\nText\n");
  EXPECT_TRUE(documents[1].counted.starts_with(" = Second = \n"));
}

TEST(Wikitext, TheTestSplitHas62Articles) {
  const std::string path = COMET_SOURCE_DIR "/../shared/data/eval/wikitext2/wiki.test.raw";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here";
  EXPECT_EQ(wikitext_documents(read_text(path)).size(), 62U);
}

TEST_F(DemoModel, WindowsCoverEveryTokenOnce) {
  const std::string body = read_text(COMET_SOURCE_DIR "/models/demo/heldout.txt").substr(0, 1500);
  const std::vector<Document> documents{{body, body}};
  const std::vector<int32_t> tokens = tokenizer_->encode(body);
  const auto num_targets = static_cast<int64_t>(tokens.size()) - 1;
  const PerplexityResult result = run(documents, {.max_length = 64});
  EXPECT_EQ(result.num_tokens, num_targets);
  // By hand: window j reads [64 j, 64 (j + 1)) and predicts the token behind each.
  auto scorer = Scorer::create(runtime_->context(), *model_, 64).value();
  double nll = 0;
  double rolling_nll =
      0;  // as lm_eval: 64 tokens of context for the targets of a last, short window
  for (int64_t begin = 0; begin < num_targets; begin += 64) {
    const int64_t count = std::min<int64_t>(64, num_targets - begin);
    for (const double score : scorer->log_probs(std::span(tokens).subspan(begin, count + 1))) {
      nll -= score;
      if (count == 64) rolling_nll -= score;
    }
  }
  ASSERT_NE(num_targets % 64, 0);
  const std::vector<double> last = scorer->log_probs(std::span(tokens).last(65));
  for (int64_t i = 64 - num_targets % 64; i < 64; ++i) rolling_nll -= last[i];
  EXPECT_NEAR(result.token_perplexity, std::exp(nll / static_cast<double>(num_targets)), 1e-9);
  EXPECT_NEAR(result.bits_per_byte, rolling_nll / static_cast<double>(body.size()) / std::log(2.0),
              1e-9);
  EXPECT_NEAR(std::log2(result.byte_perplexity), result.bits_per_byte, 1e-9);
}

TEST_F(DemoModel, LongerContextIsBetterAndLimitsHold) {
  const auto documents = split_documents(read_text(COMET_SOURCE_DIR "/models/demo/heldout.txt"));
  const PerplexityResult whole = run(documents, {.num_tokens = 1200});
  const PerplexityResult narrow = run(documents, {.max_length = 8, .num_tokens = 1200});
  EXPECT_EQ(whole.num_tokens, 1200);
  EXPECT_LT(whole.token_perplexity, narrow.token_perplexity);
  EXPECT_GT(whole.token_perplexity, 5);
  EXPECT_LT(whole.token_perplexity, 40);  // a trained model; an untrained one is at 8,192
  EXPECT_EQ(run(documents, {.limit = 1}).num_documents, 1);
}

TEST_F(DemoModel, WindowsAddUpToTheMean) {
  const auto documents = split_documents(read_text(COMET_SOURCE_DIR "/models/demo/heldout.txt"));
  const PerplexityResult result = run(documents, {.max_length = 100, .num_tokens = 450});
  double log_prob_sum = 0;
  int64_t num_tokens = 0;
  for (const WindowScore& window : result.windows) {
    log_prob_sum += window.log_prob_sum;
    num_tokens += window.num_tokens;
    EXPECT_LE(window.num_tokens, 100);
    EXPECT_EQ(window.kl_sum, 0);
  }
  EXPECT_GE(result.windows.size(), 5U);
  EXPECT_EQ(num_tokens, 450);
  EXPECT_NEAR(std::log(result.token_perplexity), -log_prob_sum / 450, 1e-12);
}

TEST_F(DemoModel, DivergenceFromABaseIsWhatTheRowsSay) {
  const auto documents = split_documents(read_text(COMET_SOURCE_DIR "/models/demo/heldout.txt"));
  const auto coarse = models::load_model(runtime_->context(), *checkpoint_, "kv4").value();
  PerplexityOptions options{.max_length = 300, .num_tokens = 300, .limit = 1};
  options.base = model_.get();
  const PerplexityResult same = run(documents, options);
  EXPECT_NEAR(same.kl_mean, 0, 1e-12);
  EXPECT_EQ(same.top1_agreement, 1.0);
  const auto scored = [&](const models::LlamaModel& model) {
    return perplexity(runtime_->context(), model, *tokenizer_, documents, options, [](int64_t) {})
        .value();
  };
  const PerplexityResult other = scored(*coarse);
  // By hand, over more rows than the scorer holds at once.
  const std::vector<int32_t> tokens = tokenizer_->encode(documents[0].scored);
  std::vector<std::vector<float>> expected(300);
  std::vector<double> kl(300);
  std::vector<int> agree(300);
  Scorer::create(runtime_->context(), *model_, 300)
      .value()
      ->for_each_row(std::span(tokens).first(300), 0, [&](int64_t i, std::span<const float> row) {
        expected[i].assign(row.begin(), row.end());
      });
  Scorer::create(runtime_->context(), *coarse, 300)
      .value()
      ->for_each_row(std::span(tokens).first(300), 0, [&](int64_t i, std::span<const float> row) {
        kl[i] = nn::kl_divergence(expected[i], row);
        agree[i] = likeliest_token(expected[i]) == likeliest_token(row) ? 1 : 0;
      });
  ASSERT_EQ(other.num_tokens, 300);
  EXPECT_NEAR(other.kl_mean, std::accumulate(kl.begin(), kl.end(), 0.0) / 300, 1e-12);
  EXPECT_EQ(other.top1_agreement, std::accumulate(agree.begin(), agree.end(), 0) / 300.0);
  EXPECT_GT(other.kl_mean, 1e-4);
  // A base changes no other figure.
  options.base = nullptr;
  EXPECT_EQ(other.token_perplexity, scored(*coarse).token_perplexity);
}

TEST_F(DemoModel, TextWithoutATargetIsAnError) {
  const auto result = perplexity(runtime_->context(), *model_, *tokenizer_, {}, {}, [](int64_t) {});
  EXPECT_FALSE(result.ok());
}

}  // namespace
}  // namespace comet::study
