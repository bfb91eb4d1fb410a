#include "comet/study/spec/study_spec.h"

#include <gtest/gtest.h>

namespace comet::study {
namespace {

const char* environment(const std::string& name) {
  return name == "COMET_TEST_MODELS" ? COMET_SOURCE_DIR "/models" : nullptr;
}

Result<StudySpec> parse(const std::string& text) {
  return parse_study_spec(text, {"spec.json", COMET_SOURCE_DIR, environment});
}

/// A spec that is right but for what a test changes.
Json good() {
  return Json::parse(R"({
    "models": ["models/demo"],
    "formats": [{"format": "bf16"}, {"format": "w4a16"}, {"format": "w4ax", "recipe": "fmpq"},
                {"format": "w4ax", "name": "mine", "recipe": "w4a8", "kv": "kv8"},
                {"format": "w8a8-int", "smooth": 0.5, "weights": "rtn"}],
    "metrics": ["size", "text:models/demo/heldout.txt", "wikitext2", "arc_easy", "similarity",
                "sync", "async"],
    "profiles": ["chat", "RAG"], "profile_scale": 0.25,
    "machine": {"name": "box", "price_per_hour": 2.5},
    "slo": {"ttft_p99_ms": 500, "itl_p99_ms": 50},
    "limit": 100, "seed": 7, "num_tokens": 4096, "data": "models", "prompts": "README.md",
    "sync": {"duration_s": 5}, "async": {"num_requests": 11}, "accuracy_floor": 0.9,
    "_remark": "not read"})");
}

TEST(StudySpec, ReadsEveryField) {
  const StudySpec spec = parse(good().dump()).value();
  ASSERT_EQ(spec.models.size(), 1U);
  EXPECT_EQ(spec.models[0].name, "demo");
  EXPECT_EQ(spec.models[0].directory, COMET_SOURCE_DIR "/models/demo");
  ASSERT_EQ(spec.formats.size(), 5U);
  EXPECT_TRUE(spec.formats[0].is_base());
  EXPECT_EQ(spec.formats[2].name, "w4ax(fmpq)");
  EXPECT_EQ(spec.formats[3].name, "mine");
  EXPECT_EQ(spec.formats[4].name, "w8a8-int(smooth=0.5, weights=rtn)");
  ASSERT_EQ(spec.metrics.size(), 7U);
  EXPECT_EQ(spec.metrics[1].kind, MetricKind::kText);
  EXPECT_EQ(spec.metrics[1].task, "text:" COMET_SOURCE_DIR "/models/demo/heldout.txt");
  EXPECT_EQ(spec.metrics[3].kind, MetricKind::kTask);
  ASSERT_EQ(spec.profiles.size(), 2U);
  EXPECT_EQ(spec.profiles[0].input_tokens, 128);
  EXPECT_EQ(spec.profiles[1].output_tokens, 32);
  EXPECT_EQ(spec.price_per_hour, 2.5);
  EXPECT_EQ(spec.slo.itl_p99_ms, 50);
  EXPECT_EQ(spec.sync.duration_s, 5);
  EXPECT_EQ(spec.sync.num_requests, 100);
  EXPECT_EQ(spec.async.num_requests, 11);
  EXPECT_EQ(spec.accuracy_floor, 0.9);
  EXPECT_EQ(spec.seed, 7U);
}

TEST(StudySpec, PathsTakeTheEnvironment) {
  Json json = good();
  json["models"] = {"${COMET_TEST_MODELS}/demo"};
  EXPECT_EQ(parse(json.dump())->models[0].directory, COMET_SOURCE_DIR "/models/demo");
  json["models"] = {"${NO_SUCH_NAME}/demo"};
  EXPECT_NE(parse(json.dump()).error().message.find("NO_SUCH_NAME"), std::string::npos);
}

TEST(StudySpec, CommonFlagsGoToEveryQuantizedFormat) {
  Json json = good();
  json["quantize"] = {{"calib", "models/demo/calibration.txt"}, {"weights", "gptq"}};
  const StudySpec spec = parse(json.dump()).value();
  EXPECT_TRUE(spec.formats[0].common_flags.empty());
  ASSERT_EQ(spec.formats[1].common_flags.size(), 2U);
  EXPECT_EQ(spec.formats[1].common_flags[0].second,
            COMET_SOURCE_DIR "/models/demo/calibration.txt");
  EXPECT_EQ(spec.formats[1].name, "w4a16");
  ASSERT_EQ(spec.formats[4].common_flags.size(), 1U);  // it has its own --weights
}

TEST(StudySpec, AShapeTakesTheFoldersPlace) {
  Json json = good();
  json["models"] =
      Json::array({{{"synthetic", "110m"}, {"tokenizer", "${COMET_TEST_MODELS}/demo"}}});
  json["metrics"] = {"sync", "async"};
  json["formats"][1]["rate_factor"] = 1.5;
  json["serve"] = {{"max_seqs", 8}};
  json["async"] = {{"window_s", 0.5},
                   {"first_rate", {{"chat", 20}, {"RAG", 7.5}}},
                   {"rate_step", 1.3},
                   {"max_in_flight", 64}};
  json["sync"] = {{"warmup_tokens", 8}};
  const auto spec = parse(json.dump());
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->models[0].name, "110m");
  EXPECT_TRUE(spec->models[0].is_synthetic());
  EXPECT_EQ(spec->models[0].tokenizer, COMET_SOURCE_DIR "/models/demo");
  EXPECT_FALSE(spec->measures_quality());
  EXPECT_EQ(spec->formats[1].rate_factor, 1.5);
  EXPECT_TRUE(spec->formats[1].flags.empty());
  EXPECT_EQ(spec->serve_flags, (StudyFlags{{"max-seqs", "8"}}));
  EXPECT_EQ(spec->async.first_rate("rag"), 7.5);
  EXPECT_EQ(spec->async.first_rate("summarization"), 0);
  EXPECT_EQ(spec->async.rate_step, 1.3);
  EXPECT_EQ(spec->async.max_in_flight, 64);
  EXPECT_EQ(spec->sync.warmup_tokens, 8);
  const auto says = [&](const char* pointer, const Json& value) {
    Json wrong = json;
    wrong[Json::json_pointer(pointer)] = value;
    return parse(wrong.dump()).error().message;
  };
  EXPECT_NE(says("/models/0/synthetic", "llama9").find("llama9"), std::string::npos);
  EXPECT_NE(says("/models/0/tokenizer", "src").find("no tokenizer.json"), std::string::npos);
  EXPECT_NE(says("/models/0/tokenizer", nullptr).find("fill_vocabulary"), std::string::npos);
  EXPECT_NE(says("/metrics/0", "size").find("'size': the synthetic model '110m'"),
            std::string::npos);
  EXPECT_NE(says("/async/first_rate/poetry", 3).find("poetry"), std::string::npos);
  EXPECT_NE(says("/async/rate_step", 1).find("rate_step"), std::string::npos);
}

TEST(StudySpec, TheTemplateIsASpec) {
  const auto spec = parse(study_template());
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->formats.size(), 6U);
}

struct Wrong {
  const char* pointer;
  const char* value;
  const char* says;
};

TEST(StudySpec, SaysWhatIsWrong) {
  const Wrong cases[] = {
      {"/metrics/0", R"("speed")", "'speed' is not known"},
      {"/metrics/0", R"("sync")", "twice"},
      {"/metrics/0", R"("text:no/such.txt")", "no/such.txt"},
      {"/metrics", "[]", "'metrics'"},
      {"/profiles/0", R"("poetry")", "poetry"},
      {"/formats/1/format", R"("w3a3")", "formats[1]: format 'w3a3' is not known"},
      {"/formats/1/format", R"("bf16")", "stands there twice"},
      {"/formats/0/recipe", R"("fmpq")", "bf16"},
      {"/formats/1/kv", "[1]", "'kv'"},
      {"/formats", "[]", "'formats'"},
      {"/models/0", R"("no/such/model")", "no/such/model"},
      {"/machine/price_per_hour", "0", "price_per_hour is 0"},
      {"/machine/price_per_hour", "-3.5", "price_per_hour is -3.5"},
      {"/machine/price_per_hour", R"("free")", "price_per_hour"},
      {"/slo/ttft_p99_ms", "-1", "ttft_p99_ms"},
      {"/limit", "-1", "limit"},
      {"/profile_scale", "2", "profile_scale"},
      {"/accuracy_floor", "1.5", "accuracy_floor"},
      {"/sync/num_requests", "0", "num_requests"},
      {"/metrik", "[]", "'metrik' is not known"},
      {"/data", R"("no/such/folder")", "data: "},
      {"/prompts", "null", "needs the field 'prompts'"},
      {"/profiles", "null", "needs the field 'profiles'"},
  };
  for (const Wrong& wrong : cases) {
    Json json = good();
    json[Json::json_pointer(wrong.pointer)] = Json::parse(wrong.value);
    const auto spec = parse(json.dump());
    ASSERT_FALSE(spec.ok()) << wrong.pointer << " = " << wrong.value;
    EXPECT_NE(spec.error().message.find(wrong.says), std::string::npos) << spec.error().message;
    EXPECT_TRUE(spec.error().message.starts_with("spec.json")) << spec.error().message;
  }
}

TEST(StudySpec, NamesTheLineOfWhatIsNoJson) {
  const auto spec = parse("{\n  \"models\": [\n  \"a\",,\n]}");
  ASSERT_FALSE(spec.ok());
  EXPECT_NE(spec.error().message.find("line 3"), std::string::npos) << spec.error().message;
  EXPECT_FALSE(parse("[]").ok());
}

}  // namespace
}  // namespace comet::study
