#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "comet/models/load.h"
#include "comet/nn/token_scores.h"
#include "comet/study/scorer.h"
#include "comet/study/tasks/score/generator.h"
#include "comet/study/tasks/score/likelihood.h"
#include "comet/study/tasks/score/number_answer.h"
#include "comet/study/tasks/score/statistics.h"
#include "support/tiny_tokenizer.h"

namespace comet::study {
namespace {

TEST(Statistics, AreLmEvals) {
  const std::array<double, 4> hits{1, 0, 1, 1};
  EXPECT_EQ(mean_of(hits), 0.75);
  EXPECT_DOUBLE_EQ(stderr_of_mean(hits), 0.25);
  EXPECT_TRUE(std::isnan(stderr_of_mean(std::span(hits).first(1))));
  // lm_eval.api.metrics.bootstrap_stderr(perplexity, xs, 2000), computed in Python.
  const std::array<double, 5> log_probs{-1.5, -0.25, -3.0, -2.0, -0.125};
  ThreadPool pool(2);
  EXPECT_DOUBLE_EQ(perplexity_of(log_probs), 3.955076722920577);
  EXPECT_NEAR(bootstrap_perplexity_stderr(pool, log_probs, 2000), 2.316030802430154, 1e-12);
  EXPECT_TRUE(std::isnan(bootstrap_perplexity_stderr(pool, std::span(log_probs).first(1), 2000)));
  // pooled_sample_stderr([0.1, 0.3], [10, 30]).
  const std::array<double, 2> stderrs{0.1, 0.3};
  const std::array<int64_t, 2> sizes{10, 30};
  EXPECT_NEAR(pooled_stderr(stderrs, sizes), std::sqrt((9 * 0.01 * 10 + 29 * 0.09 * 30) / 38 / 40),
              1e-15);
  const std::array<int64_t, 2> ones{1, 1};
  EXPECT_TRUE(std::isnan(pooled_stderr(stderrs, ones)));
}

// Answers of Python's re.findall with the two patterns of gsm8k.yaml.
TEST(NumberAnswer, ExtractsAsTheFiltersDo) {
  EXPECT_EQ(strict_number("so\n#### 1,234.\nmore #### 5"), "1,234.");
  EXPECT_EQ(strict_number("#### x #### -7"), "-7");
  EXPECT_EQ(strict_number("#### -"), "[invalid]");
  EXPECT_EQ(strict_number("####7"), "[invalid]");
  EXPECT_EQ(flexible_number("1 and 2 and 30."), "30.");
  EXPECT_EQ(flexible_number("it is -5"), "-5");
  EXPECT_EQ(flexible_number("$5 or so"), "$5");
  EXPECT_EQ(flexible_number("5 dollars. The end."), "5");
  EXPECT_EQ(flexible_number("10-20"), "-20");
  EXPECT_EQ(flexible_number("a -- 3"), "3");
  EXPECT_EQ(flexible_number("..."), "...");
  EXPECT_EQ(flexible_number("none. -"), "[invalid]");
  EXPECT_TRUE(equal_numbers("$1,234.", "work\n#### 2 #### 1234"));
  EXPECT_FALSE(equal_numbers("1234.0", "#### 1234"));
  EXPECT_FALSE(equal_numbers("[invalid]", "#### 3"));
}

class DemoScores : public ::testing::Test {
 protected:
  void load(int num_threads, const char* kv) {
    runtime_ = Runtime::cpu(detect_cpu_isa(), num_threads);
    const auto checkpoint = io::Checkpoint::open(COMET_SOURCE_DIR "/models/demo").value();
    model_ = models::load_model(runtime_->context(), checkpoint, kv).value();
  }
  std::vector<std::vector<Likelihood>> score(std::span<const LikelihoodScorer::Group> groups,
                                             int64_t max_length = 128) {
    auto scorer = LikelihoodScorer::create(runtime_->context(), *model_, max_length).value();
    return scorer->score(groups).value();
  }

  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<models::LlamaModel> model_;
};

std::vector<int32_t> some_tokens(int64_t count, int64_t seed) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>((i * 37 + seed * 101 + i * i) % 8000));
  }
  return tokens;
}

/// Choices behind a common prompt, some of one token, some with equal beginnings.
LikelihoodScorer::Group group_of(int64_t num_prompt, int64_t seed) {
  LikelihoodScorer::Group group;
  for (const int64_t num_targets : {1, 1, 5, 9, 0}) {
    LikelihoodRequest request{some_tokens(num_prompt, seed), num_prompt};
    for (int64_t i = 0; i < num_targets; ++i) {
      request.tokens.push_back(
          static_cast<int32_t>(100 + i + (num_targets == 1 ? group.size() : 0)));
    }
    group.push_back(std::move(request));
  }
  return group;
}

void expect_equal(const std::vector<Likelihood>& a, const std::vector<Likelihood>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].log_prob, b[i].log_prob) << i;
    EXPECT_EQ(a[i].is_greedy, b[i].is_greedy) << i;
  }
}

TEST_F(DemoScores, LikelihoodsAreTheScorers) {
  load(2, "kv16");
  const std::vector<LikelihoodScorer::Group> groups{group_of(70, 1)};
  const auto answers = score(groups);
  auto reference = Scorer::create(runtime_->context(), *model_, 128).value();
  for (size_t i = 0; i < groups[0].size(); ++i) {
    const LikelihoodRequest& request = groups[0][i];
    double sum = 0;
    bool greedy = true;
    reference->for_each_row(std::span(request.tokens).first(request.tokens.size() - 1), 0,
                            [](int64_t, std::span<const float>) {});
    const auto log_probs = reference->log_probs(request.tokens);
    for (auto t = static_cast<size_t>(request.num_prompt); t < request.tokens.size(); ++t) {
      sum += log_probs[t - 1];
    }
    std::vector<int8_t> is_likeliest(request.tokens.size(), 1);
    reference->for_each_row(std::span(request.tokens).first(request.tokens.size() - 1),
                            request.num_prompt - 1,
                            [&](int64_t row, std::span<const float> logits) {
                              const float own = logits[request.tokens[row + 1]];
                              for (const float logit : logits) {
                                if (logit > own) is_likeliest[row] = 0;
                              }
                            });
    for (const int8_t one : is_likeliest) greedy = greedy && one != 0;
    EXPECT_NEAR(answers[0][i].log_prob, sum, 1e-4 * std::max(1.0, std::abs(sum))) << i;
    EXPECT_EQ(answers[0][i].is_greedy, greedy) << i;
  }
  EXPECT_EQ(answers[0][4].log_prob, 0.0);  // nothing to say
  EXPECT_TRUE(answers[0][4].is_greedy);
}

// Not a bit: shared prompts, groups in one step, long groups cut into several, threads.
TEST_F(DemoScores, LikelihoodsDoNotDependOnCompany) {
  for (const char* kv : {"kv16", "kv4"}) {
    load(1, kv);
    std::vector<LikelihoodScorer::Group> groups;
    for (int64_t i = 0; i < 6; ++i) groups.push_back(group_of(20 + 17 * i, i));
    std::vector<std::vector<Likelihood>> alone;
    for (const auto& group : groups) {
      alone.emplace_back();
      for (const LikelihoodRequest& request : group) {
        const std::vector<LikelihoodScorer::Group> one{{request}};
        alone.back().push_back(score(one)[0][0]);
      }
    }
    const auto together = score(groups);
    load(2, kv);
    const auto threaded = score(groups);
    for (size_t g = 0; g < groups.size(); ++g) {
      expect_equal(together[g], alone[g]);
      expect_equal(threaded[g], alone[g]);
    }
  }
}

TEST_F(DemoScores, LongGroupsAreCutIntoSteps) {
  load(2, "kv16");
  LikelihoodScorer::Group group;
  for (int64_t i = 0; i < 12; ++i)
    group.push_back({some_tokens(300 + i, i), 280});  // nothing shared
  const std::vector<LikelihoodScorer::Group> groups{group};
  const auto answers = score(groups, 320);
  for (size_t i = 0; i < group.size(); ++i) {
    const std::vector<LikelihoodScorer::Group> one{{group[i]}};
    EXPECT_EQ(answers[0][i].log_prob, score(one, 320)[0][0].log_prob);
  }
}

text::Tokenizer tiny_tokenizer() {
  return text::Tokenizer::from_json(test::tiny_tokenizer_json().dump(), "tiny").value();
}

TEST(EncodePair, FollowsLmEval) {
  const text::Tokenizer tokenizer = tiny_tokenizer();
  const EncodeRules rules{.prefix_token = 1, .max_length = 8, .add_bos = false};
  const auto whole = [&](const char* text) {
    return tokenizer.encode(text, {.add_special_tokens = false, .parse_special = true});
  };
  const auto plain = encode_pair(tokenizer, "ab", " cd", rules);
  EXPECT_EQ(plain.tokens, whole("ab cd"));
  EXPECT_EQ(plain.num_prompt, static_cast<int64_t>(whole("ab").size()));
  const auto spaced = encode_pair(tokenizer, "ab ", "cd", rules);  // the blank moves over
  EXPECT_EQ(spaced.tokens, plain.tokens);
  EXPECT_EQ(spaced.num_prompt, plain.num_prompt);
  const auto empty = encode_pair(tokenizer, "", "cd", rules);
  EXPECT_EQ(empty.num_prompt, 1);
  EXPECT_EQ(empty.tokens.front(), 1);
  EXPECT_EQ(empty.tokens.size(), whole("cd").size() + 1);
  const auto nothing = encode_pair(tokenizer, "", "", rules);
  EXPECT_EQ(nothing.tokens, std::vector<int32_t>{1});
  const auto cut = encode_pair(tokenizer, "abcdefghijklmnop", " cd", rules);
  const auto all = whole("abcdefghijklmnop cd");
  EXPECT_EQ(cut.tokens, std::vector<int32_t>(all.end() - 8, all.end()));
  EXPECT_EQ(cut.num_targets(), static_cast<int64_t>(all.size() - whole("abcdefghijklmnop").size()));
  const auto long_answer = encode_pair(tokenizer, "ab", "abcdefghijklmnop", rules);
  EXPECT_EQ(long_answer.num_prompt, 1);
  EXPECT_EQ(long_answer.tokens.size(), 8U);
}

TEST(EncodePrompt, LeavesRoomForTheAnswer) {
  const text::Tokenizer tokenizer = tiny_tokenizer();
  const std::string text(100, 'a');
  const auto length = static_cast<int64_t>(
      tokenizer.encode(text, {.add_special_tokens = false, .parse_special = true}).size());
  const auto fits = encode_prompt(tokenizer, text, 10, length + 10, false);
  EXPECT_EQ(static_cast<int64_t>(fits.prompt.size()), length);
  EXPECT_EQ(fits.max_tokens, 10);
  const auto cut = encode_prompt(tokenizer, text, 10, length, false);
  EXPECT_EQ(static_cast<int64_t>(cut.prompt.size()), length - 10);
  EXPECT_EQ(cut.max_tokens, 10);
  const auto greedy = encode_prompt(tokenizer, text, 1000, length + 4, false);
  EXPECT_EQ(static_cast<int64_t>(greedy.prompt.size()), (length + 4) / 2);
  EXPECT_EQ(greedy.max_tokens, length + 4 - (length + 4) / 2);
}

}  // namespace
}  // namespace comet::study
