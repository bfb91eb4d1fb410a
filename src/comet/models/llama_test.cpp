// LLaMA against transformers (goldens of tools/oracle.py), and properties of the ragged forward.
#include "comet/models/llama.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "comet/io/safetensors.h"
#include "comet/models/load.h"
#include "comet/models/synthetic.h"
#include "support/drawn_llama.h"

namespace comet::models {
namespace {

const std::string kGoldens = COMET_SOURCE_DIR "/tests/data/llama/";

struct Golden {
  std::vector<int32_t> prompt, logit_rows, greedy;
  std::vector<float> logits;  // [logit_rows, vocab]
};

template <typename T>
std::vector<T> values(const io::SafetensorsFile& file, const std::string& name) {
  const Tensor tensor = file.tensor(name).value();
  return {tensor.data<T>(), tensor.data<T>() + tensor.num_elements()};
}

Golden read_golden(const std::string& name) {
  const auto file = io::SafetensorsFile::open(kGoldens + name + "/golden.safetensors").value();
  return {values<int32_t>(file, "prompt"), values<int32_t>(file, "logit_rows"),
          values<int32_t>(file, "greedy"), values<float>(file, "logits")};
}

/// One sequence of a cache with room for `capacity` tokens, pages in descending order.
class Session {
 public:
  Session(Context& ctx, const LlamaModel& model, const kv::KvFormat& format, int64_t capacity)
      : ctx_(ctx),
        model_(model),
        cache_(kv::KvCache::create(format, model.kv_shape(), model.config().num_layers,
                                   (capacity + kv::kPageTokens - 1) / kv::kPageTokens)
                   .value()),
        pages_(cache_.num_pages()) {
    std::iota(pages_.rbegin(), pages_.rend(), 0);
  }

  /// Logits [tokens.size(), vocab] of the next tokens.
  std::vector<float> step(std::span<const int32_t> tokens) {
    const auto count = static_cast<int32_t>(tokens.size());
    std::vector<int32_t> positions(count);
    std::iota(positions.begin(), positions.end(), length_);
    std::vector<int32_t> rows(count);
    std::iota(rows.begin(), rows.end(), 0);
    length_ += count;
    const std::array<int32_t, 2> cu{0, count};
    const std::array<int32_t, 1> lens{length_};
    const Batch batch{tokens, positions, cu, lens, {pages_.data(), {1, cache_.num_pages()}}, rows};
    const ArenaScope scope(ctx_.arena);
    const Tensor logits = model_.forward(ctx_, batch, cache_);
    return {logits.data<float>(), logits.data<float>() + logits.num_elements()};
  }

 private:
  Context& ctx_;
  const LlamaModel& model_;
  kv::KvCache cache_;
  std::vector<int32_t> pages_;
  int32_t length_ = 0;
};

float max_abs(std::span<const float> x) {
  float max = 0;
  for (const float v : x) max = std::max(max, std::abs(v));
  return max;
}

/// Largest difference of the golden's rows, over max|logit|.
double logit_error(const Golden& golden, std::span<const float> logits) {
  const size_t vocab = golden.logits.size() / golden.logit_rows.size();
  double error = 0;
  for (size_t i = 0; i < golden.logit_rows.size(); ++i) {
    for (size_t j = 0; j < vocab; ++j) {
      const double expected = golden.logits[i * vocab + j];
      error = std::max(error, std::abs(logits[golden.logit_rows[i] * vocab + j] - expected));
    }
  }
  return error / max_abs(golden.logits);
}

std::vector<int32_t> continue_greedily(Session& session, std::vector<float> logits, int64_t vocab,
                                       size_t count) {
  std::vector<int32_t> tokens;
  while (tokens.size() < count) {
    const auto last = logits.end() - vocab;
    tokens.push_back(static_cast<int32_t>(std::max_element(last, logits.end()) - last));
    logits = session.step(std::span(tokens).last(1));
  }
  return tokens;
}

class LlamaGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(LlamaGolden, LogitsAndGreedyTokensEqualTransformers) {
  const std::string name = GetParam();
  const Golden golden = read_golden(name);
  std::optional<testing::DrawnLlama> drawn;
  if (name != "demo") drawn.emplace(name);
  const auto checkpoint =
      io::Checkpoint::open(drawn ? drawn->path() : COMET_SOURCE_DIR "/models/demo").value();
  for (const CpuIsa isa : available_cpu_isas()) {
    auto runtime = Runtime::cpu(isa, 2);
    Context& ctx = runtime->context();
    const auto model = load_model(ctx, checkpoint, "").value();
    const auto capacity = static_cast<int64_t>(golden.prompt.size() + golden.greedy.size());
    Session exact(ctx, *model, kv::kv32_format(), capacity);
    const std::vector<float> logits = exact.step(golden.prompt);
    EXPECT_LE(logit_error(golden, logits), 1e-3) << cpu_isa_name(isa);
    EXPECT_EQ(continue_greedily(exact, logits, model->config().vocab_size, golden.greedy.size()),
              golden.greedy)
        << cpu_isa_name(isa);
    Session bf16(ctx, *model, *kv::find_kv_format("kv16").value(), capacity);
    EXPECT_LE(logit_error(golden, bf16.step(golden.prompt)), 1e-2) << cpu_isa_name(isa);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, LlamaGolden,
                         ::testing::Values("llama2", "llama3", "llama3_2", "biases", "mistral",
                                           "qwen2", "qwen3", "demo"),
                         [](const auto& param) { return std::string(param.param); });

TEST(LlamaForward, ChunksAndSharedBatchesGiveTheLogitsOfOnePass) {
  const testing::DrawnLlama drawn("llama3");
  const auto checkpoint = io::Checkpoint::open(drawn.path()).value();
  auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  const auto model = load_model(ctx, checkpoint, "").value();
  const Golden golden = read_golden("llama3");
  const auto length = static_cast<int64_t>(golden.prompt.size());
  Session whole(ctx, *model, kv::kv32_format(), length);
  const std::vector<float> expected = whole.step(golden.prompt);
  Session chunked(ctx, *model, kv::kv32_format(), length);
  std::vector<float> logits;
  for (int64_t begin = 0; begin < length; begin += 7) {
    const auto part =
        chunked.step(std::span(golden.prompt).subspan(begin, std::min<int64_t>(7, length - begin)));
    logits.insert(logits.end(), part.begin(), part.end());
  }
  ASSERT_EQ(logits.size(), expected.size());
  for (size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], expected[i], 1e-4) << i;
}

TEST(LlamaForward, SteadyDecodeTakesNoMemory) {
  auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  const auto checkpoint = io::Checkpoint::open(COMET_SOURCE_DIR "/models/demo").value();
  const auto model = load_model(ctx, checkpoint, "kv4").value();
  Session session(ctx, *model, *model->format().kv, 256);
  const std::array<int32_t, 1> token{17};
  session.step(token);
  const int64_t blocks = ctx.arena.num_blocks_taken();
  for (int i = 0; i < 100; ++i) session.step(token);
  EXPECT_EQ(ctx.arena.num_blocks_taken(), blocks);
}

TEST(ModelFormat, RefusesWhatItCannotRun) {
  io::ModelConfig config;
  const auto refused = [&](Json quantization, const char* part) {
    config.quantization_config = std::make_shared<const Json>(std::move(quantization));
    const auto format = parse_model_format(config, "x/config.json");
    ASSERT_FALSE(format.ok()) << part;
    EXPECT_NE(format.error().message.find(part), std::string::npos) << format.error().message;
    EXPECT_NE(format.error().message.find("x/config.json"), std::string::npos);
  };
  refused({{"quant_method", "bitsandbytes"}}, "quant_method is 'bitsandbytes'");
  refused({{"quant_method", "gptq"}}, "quantization_config.bits is missing");
  refused({{"quant_method", "comet"}, {"format", "w2a2"}}, "w2a2");
  refused({{"quant_method", "comet"}, {"format", "w4ax"}, {"lm_head", "fp4"}}, "lm_head");
  refused({{"quant_method", "comet"}, {"format", "w4ax"}, {"kv_cache", {{"format", "kv3"}}}},
          "kv3");
  config.head_dim = 96;
  config.max_position_embeddings = 100;
  const auto kv_refused = [&](Json kv_cache, const char* part) {
    refused({{"quant_method", "comet"}, {"format", "w4ax"}, {"kv_cache", std::move(kv_cache)}},
            part);
  };
  kv_refused({{"format", "kv4"}, {"rotate", true}}, "head_dim is 96");
  kv_refused({{"format", "kv4"}, {"rotate", 1}}, "rotate");
  for (const char* window : {"4", "[4]", "[4, 32, 1]", "[4, 0.5]", "[-1, 32]", "[4, -32]",
                             "[60, 41]", "[0, 101]", "[0, 18446744073709551615]", "[\"4\", 32]"}) {
    kv_refused({{"format", "kv4"}, {"window", Json::parse(window)}}, "kv_cache.window");
  }
}

TEST(ModelFormat, ReadsRotationAndWindow) {
  io::ModelConfig config;
  config.head_dim = 64;
  config.max_position_embeddings = 100;
  EXPECT_FALSE(parse_model_format(config, "x").value().kv_options.rotate);
  config.comet_kv_cache =
      std::make_shared<const Json>(Json{{"format", "kv8"}, {"rotate", true}, {"window", {4, 96}}});
  const ModelFormat format = parse_model_format(config, "x").value();
  EXPECT_EQ(format.kv->name, "kv8");
  EXPECT_TRUE(format.kv_options.rotate);
  EXPECT_EQ(format.kv_options.window_first, 4);
  EXPECT_EQ(format.kv_options.window_recent, 96);
}

TEST(Synthetic, KnowsTheShapesOfTheProductPage) {
  EXPECT_EQ(synthetic_config("llama3-8b").value().intermediate_size, 14336);
  const auto unknown = synthetic_config("llama9");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().message.find("llama3.2-1b"), std::string::npos);
}

}  // namespace
}  // namespace comet::models
