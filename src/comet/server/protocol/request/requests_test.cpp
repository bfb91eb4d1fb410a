#include "comet/server/protocol/request/requests.h"

#include <gtest/gtest.h>

namespace comet::server {
namespace {

RequestLimits test_limits() {
  RequestLimits limits;
  limits.vocab_size = 100;
  return limits;
}

Json with(const Json& base, const std::string& more) {
  Json body = base;
  body.update(Json::parse(more));
  return body;
}

const Json kPrompt = {{"prompt", "x"}};
const Json kMessages = {{"messages", {{{"role", "user"}, {"content", "x"}}}}};

/// The field that an error names; "" when the body is taken.
std::string completion_error(const Json& body, CompletionRequest* out = nullptr) {
  CompletionRequest request;
  const auto error = parse_completion(body, test_limits(), request);
  if (out != nullptr) *out = std::move(request);
  if (!error) return "";
  EXPECT_EQ(error->status, 400);
  EXPECT_LT(error->message.size(), 500);
  return error->param;
}

std::string chat_error(const Json& body, ChatRequest* out = nullptr) {
  ChatRequest request;
  const auto error = parse_chat(body, test_limits(), request);
  if (out != nullptr) *out = std::move(request);
  return error ? error->param : "";
}

TEST(CompletionRequest, TakesEveryFormOfPrompt) {
  CompletionRequest request;
  ASSERT_EQ(completion_error({{"prompt", "a"}}, &request), "");
  EXPECT_EQ(std::get<std::string>(request.prompts.at(0)), "a");
  ASSERT_EQ(completion_error({{"prompt", {"a", ""}}}, &request), "");
  EXPECT_EQ(request.prompts.size(), 2);
  ASSERT_EQ(completion_error({{"prompt", {0, 99.0}}}, &request), "");
  EXPECT_EQ(std::get<std::vector<int32_t>>(request.prompts.at(0)), (std::vector<int32_t>{0, 99}));
  ASSERT_EQ(completion_error(Json::parse(R"({"prompt": [[1], [2, 3]]})"), &request), "");
  EXPECT_EQ(std::get<std::vector<int32_t>>(request.prompts.at(1)), (std::vector<int32_t>{2, 3}));
}

TEST(CompletionRequest, RefusesOtherPromptsAndNamesTheEntry) {
  EXPECT_EQ(completion_error(Json::object()), "prompt");
  for (const char* prompt : {"null", "1", "{}", "true", "[]", "[100]", "[-1]", "[1.5]",
                             "[1, \"a\"]", "[1, [1]]", "[2147483648]", "[1e300]"}) {
    EXPECT_EQ(completion_error(Json::parse(fmt::format(R"({{"prompt": {}}})", prompt))), "prompt")
        << prompt;
  }
  EXPECT_EQ(completion_error(Json::parse(R"({"prompt": ["a", 1]})")), "prompt[1]");
  EXPECT_EQ(completion_error(Json::parse(R"({"prompt": [[1], []]})")), "prompt[1]");
  EXPECT_EQ(completion_error(Json::parse(R"({"prompt": [[1], [100]]})")), "prompt[1]");
  EXPECT_EQ(completion_error(Json::parse(R"({"prompt": [null]})")), "prompt[0]");
  EXPECT_EQ(completion_error({{"prompt", Json(std::vector<std::string>(1025, "a"))}}), "prompt");
}

TEST(CompletionRequest, ReadsEveryParameter) {
  CompletionRequest request;
  ASSERT_EQ(completion_error(with(kPrompt, R"({"model": "m", "max_tokens": 7, "min_tokens": 2,
      "n": 3, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "presence_penalty": 1,
      "frequency_penalty": -1, "repetition_penalty": 1.1, "seed": -5, "ignore_eos": true,
      "stop": ["a", 5], "stop_token_ids": [6], "logit_bias": {"7": -100, "8": 1.5}, "logprobs": 2,
      "echo": true, "stream": true, "user": "u", "best_of": 3, "unknown": {"x": 1},
      "stream_options": {"include_usage": true, "continuous_usage_stats": true}})"),
                             &request),
            "");
  const GenerationParams& p = request.params;
  EXPECT_EQ(p.model, "m");
  EXPECT_EQ(p.max_tokens, 7);
  EXPECT_EQ(p.min_tokens, 2);
  EXPECT_EQ(p.n, 3);
  EXPECT_EQ(p.temperature, 0.5);
  EXPECT_EQ(p.top_p, 0.9);
  EXPECT_EQ(p.top_k, 40);
  EXPECT_EQ(p.min_p, 0.1);
  EXPECT_EQ(p.presence_penalty, 1);
  EXPECT_EQ(p.frequency_penalty, -1);
  EXPECT_EQ(p.repetition_penalty, 1.1);
  EXPECT_EQ(p.seed, -5);
  EXPECT_TRUE(p.ignore_eos && p.stream && p.include_usage && p.continuous_usage && request.echo);
  EXPECT_EQ(p.stop, std::vector<std::string>{"a"});
  EXPECT_EQ(p.stop_token_ids, (std::vector<int32_t>{5, 6}));
  ASSERT_EQ(p.logit_bias.size(), 2);
  EXPECT_EQ(p.logit_bias[0], (std::pair<int32_t, double>{7, -100}));
  EXPECT_EQ(p.num_logprobs, 2);
}

TEST(CompletionRequest, NullIsAsLeftOut) {
  Json body = kPrompt;
  for (const char* name :
       {"model", "max_tokens", "n", "temperature", "stop", "logit_bias", "logprobs", "stream",
        "seed", "suffix", "stream_options", "user", "echo", "best_of", "response_format"}) {
    body[name] = nullptr;
  }
  CompletionRequest request;
  EXPECT_EQ(completion_error(body, &request), "");
  EXPECT_FALSE(request.params.max_tokens || request.params.num_logprobs || request.params.stream);
}

struct BadField {
  const char* field;
  const char* value;
};

TEST(CompletionRequest, NamesTheFieldThatIsOutOfRangeOrOfTheWrongType) {
  const BadField cases[] = {
      {"n", "0"},
      {"n", "129"},
      {"n", "2147483648"},
      {"n", "\"1\""},
      {"n", "1.5"},
      {"n", "true"},
      {"best_of", "1000000000"},
      {"best_of", "2"},
      {"max_tokens", "-1"},
      {"max_tokens", "0"},
      {"max_tokens", "9223372036854775808"},
      {"max_tokens", "[]"},
      {"min_tokens", "-1"},
      {"temperature", "-1"},
      {"temperature", "2.1"},
      {"temperature", "1e30"},
      {"temperature", "\"0\""},
      {"top_p", "-0.1"},
      {"top_p", "1.1"},
      {"top_k", "-5"},
      {"min_p", "2"},
      {"presence_penalty", "1e9"},
      {"frequency_penalty", "-2.5"},
      {"repetition_penalty", "0"},
      {"repetition_penalty", "-1"},
      {"seed", "18446744073709551616"},
      {"seed", "9223372036854775808"},
      {"seed", "1.5"},
      {"logprobs", "21"},
      {"logprobs", "-1"},
      {"logprobs", "true"},
      {"logprobs", "1000000"},
      {"echo", "1"},
      {"stream", "\"yes\""},
      {"ignore_eos", "0"},
      {"priority", "-9223372036854775808"},
      {"user", "1"},
      {"model", "[]"},
      {"stop", "\"\""},
      {"stop", "[\"\"]"},
      {"stop", "[null]"},
      {"stop", "{}"},
      {"stop", "[-1]"},
      {"stop", "100"},
      {"stop_token_ids", "[100]"},
      {"stop_token_ids", "5"},
      {"logit_bias", "[]"},
      {"logit_bias", "{\"-1\": 1}"},
      {"logit_bias", "{\"100\": 1}"},
      {"logit_bias", "{\"a\": 1}"},
      {"logit_bias", "{\"1 \": 1}"},
      {"logit_bias", "{\"\": 1}"},
      {"logit_bias", "{\"1\": 100.5}"},
      {"logit_bias", "{\"1\": \"x\"}"},
      {"stream_options", "{}"},
      {"suffix", "\"x\""},
      {"response_format", "{\"type\":\"json_object\"}"},
      {"guided_json", "{}"},
      {"use_beam_search", "true"},
  };
  for (const BadField& bad : cases) {
    const auto more = fmt::format(R"({{"{}": {}}})", bad.field, bad.value);
    EXPECT_EQ(completion_error(with(kPrompt, more)), bad.field) << more;
  }
}

TEST(CompletionRequest, BoundsListsAndTexts) {
  const std::vector<std::string> stops(17, "a");
  EXPECT_EQ(completion_error({{"prompt", "x"}, {"stop", stops}}), "stop");
  EXPECT_EQ(completion_error({{"prompt", "x"}, {"stop", std::string(1 << 20, 'a')}}), "stop");
  EXPECT_EQ(completion_error({{"prompt", "x"}, {"user", std::string(1 << 20, 'a')}}), "user");
  Json biases = Json::object();
  for (int i = 0; i < 2000; ++i) biases[std::to_string(i)] = 0;
  EXPECT_EQ(completion_error({{"prompt", "x"}, {"logit_bias", biases}}), "logit_bias");
  EXPECT_EQ(completion_error(
                with(kPrompt, R"({"stream": true, "stream_options": {"include_usage": 1}})")),
            "stream_options.include_usage");
}

TEST(CompletionRequest, NoTokensOnlyWithEcho) {
  EXPECT_EQ(completion_error(with(kPrompt, R"({"max_tokens": 0, "echo": true})")), "");
}

TEST(CompletionRequest, TinyTemperaturesAreGreedy) {
  CompletionRequest request;
  ASSERT_EQ(completion_error(with(kPrompt, R"({"temperature": 1e-30})"), &request), "");
  EXPECT_EQ(request.params.temperature, 0);
}

TEST(ChatRequest, JoinsTextParts) {
  ChatRequest request;
  const auto body = Json::parse(R"({"messages": [
      {"role": "developer", "content": "d", "name": "n"}, {"role": "assistant", "content": ""},
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
      "max_completion_tokens": 9, "logprobs": true, "top_logprobs": 3, "tools": [],
      "tool_choice": "none", "response_format": {"type": "text"}})");
  ASSERT_EQ(chat_error(body, &request), "");
  ASSERT_EQ(request.messages.size(), 3);
  EXPECT_EQ(request.messages[0].role, "system");
  EXPECT_EQ(request.messages[2].content, "ab");
  EXPECT_EQ(request.params.max_tokens, 9);
  EXPECT_EQ(request.params.num_logprobs, 3);
}

TEST(ChatRequest, NamesThePlaceInTheMessages) {
  const auto error = [](const char* messages) {
    return chat_error(Json::parse(fmt::format(R"({{"messages": {}}})", messages)));
  };
  for (const char* messages : {"null", "\"a\"", "[]", "{}", "123"}) {
    EXPECT_EQ(error(messages), "messages") << messages;
  }
  EXPECT_EQ(error("[123]"), "messages[0]");
  EXPECT_EQ(error("[null]"), "messages[0]");
  EXPECT_EQ(error("[{}]"), "messages[0].role");
  EXPECT_EQ(error(R"([{"role": 123, "content": "a"}])"), "messages[0].role");
  EXPECT_EQ(error(R"([{"role": "root", "content": "a"}])"), "messages[0].role");
  EXPECT_EQ(error(R"([{"role": "tool", "content": "a", "tool_call_id": "1"}])"),
            "messages[0].role");
  EXPECT_EQ(error(R"([{"role": "user"}])"), "messages[0].content");
  EXPECT_EQ(error(R"([{"role": "user", "content": 123}])"), "messages[0].content");
  EXPECT_EQ(error(R"([{"role": "user", "content": []}])"), "messages[0].content");
  EXPECT_EQ(error(R"([{"role": "user", "content": [1]}])"), "messages[0].content[0]");
  EXPECT_EQ(error(R"([{"role": "user", "content": [{"type": "image_url"}]}])"),
            "messages[0].content[0].type");
  EXPECT_EQ(error(R"([{"role": "user", "content": [{"type": "text"}]}])"),
            "messages[0].content[0].text");
  EXPECT_EQ(error(R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": null,
                       "tool_calls": [{"id": "1"}]}])"),
            "messages[1].tool_calls");
}

TEST(ChatRequest, NamesWhatIsNotSupported) {
  for (const char* more :
       {R"({"tools": [{"type": "function"}]})", R"({"tool_choice": "auto"})",
        R"({"response_format": {"type": "json_object"}})", R"({"response_format": 1})",
        R"({"functions": [{}]})", R"({"chat_template": "x"})", R"({"top_logprobs": 2})",
        R"({"top_logprobs": 21})", R"({"logprobs": 1})", R"({"max_completion_tokens": 0})",
        R"({"modalities": ["audio"]})"}) {
    EXPECT_EQ(chat_error(with(kMessages, more)), Json::parse(more).begin().key()) << more;
  }
}

TEST(TokenizeRequest, KnowsBothNames) {
  TokenizeRequest request;
  EXPECT_FALSE(parse_tokenize(Json::parse(R"({"prompt": "a"})"), test_limits(), request));
  EXPECT_FALSE(parse_tokenize(Json::parse(R"({"content": "b", "add_special": false,
                                              "with_pieces": true})"),
                              test_limits(), request));
  EXPECT_EQ(request.text, "b");
  EXPECT_TRUE(request.with_pieces && !request.add_special_tokens);
  EXPECT_TRUE(parse_tokenize(Json::object(), test_limits(), request));
  EXPECT_TRUE(parse_tokenize(Json::parse(R"({"prompt": ["a"]})"), test_limits(), request));
}

TEST(DetokenizeRequest, ChecksIds) {
  DetokenizeRequest request;
  EXPECT_FALSE(parse_detokenize(Json::parse(R"({"tokens": [1, 99]})"), test_limits(), request));
  for (const char* body : {"{}", R"({"tokens": 1})", R"({"tokens": [100]})", R"({"tokens": [[1]]})",
                           R"({"tokens": [-1]})"}) {
    EXPECT_TRUE(parse_detokenize(Json::parse(body), test_limits(), request)) << body;
  }
}

}  // namespace
}  // namespace comet::server
