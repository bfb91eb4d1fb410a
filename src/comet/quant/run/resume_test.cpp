#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <numeric>

#include "comet/nn/token_scores.h"
#include "comet/quant/quantize_model.h"
#include "support/temporary_folder.h"
#include "support/tiny_llama.h"

namespace comet::quant {
namespace {

namespace fs = std::filesystem;

std::map<std::string, std::string> bytes_of_files(const std::string& directory) {
  std::map<std::string, std::string> bytes;
  for (const auto& entry : fs::directory_iterator(directory)) {
    std::ifstream file(entry.path(), std::ios::binary);
    bytes[entry.path().filename().string()] = {std::istreambuf_iterator<char>(file), {}};
  }
  return bytes;
}

GateSet random_gate(int64_t count, int64_t length, uint64_t seed) {
  const CalibrationSet text = testing::random_samples(count, length + 1, seed);
  GateSet gate;
  for (const auto& sample : text.samples) {
    gate.inputs.samples.emplace_back(sample.begin(), sample.end() - 1);
    gate.targets.emplace_back(sample.begin() + 1, sample.end());
  }
  return gate;
}

class ResumeTest : public ::testing::Test {
 protected:
  ResumeTest() {
    testing::write_tiny_checkpoint(folder_.file("model"), testing::TinyModel::kBiases,
                                   testing::tiny_tensors(config_));
    request_.options = options_of_recipe("w4a8", "auto", false).value();
    request_.out_dir = folder_.file("out");
    request_.gate = random_gate(3, 40, 9);
  }
  Result<QuantReport> quantize(int num_threads = 1) {
    auto runtime = Runtime::cpu(detect_cpu_isa(), num_threads);
    const auto checkpoint = io::Checkpoint::open(folder_.file("model"));
    if (!checkpoint) return checkpoint.error();
    return quantize_model(runtime->context(), *checkpoint, request_, set_);
  }
  /// A run that is told to stop behind each layer.
  void expect_interrupted(int64_t num_layers) {
    request_.should_stop = [] { return true; };
    const auto stopped = quantize();
    request_.should_stop = {};
    ASSERT_FALSE(stopped.ok());
    EXPECT_NE(stopped.error().message.find(fmt::format("after {} of 2 layers", num_layers)),
              std::string::npos)
        << stopped.error().message;
    EXPECT_NE(stopped.error().message.find("--resume"), std::string::npos);
    EXPECT_TRUE(fs::exists(folder_.file("out.partial")));
    EXPECT_FALSE(fs::exists(folder_.file("out")));
  }
  /// Sum of log p(target) and logits of one window by the whole model.
  std::vector<std::vector<float>> logits_of(const std::string& name,
                                            const std::vector<int32_t>& tokens) {
    auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
    Context& ctx = runtime->context();
    const auto checkpoint = io::Checkpoint::open(folder_.file(name)).value();
    const auto model = models::load_model(ctx, checkpoint, "").value();
    const auto count = static_cast<int32_t>(tokens.size());
    auto cache = model->make_cache(ctx, 2, 1).value();
    std::vector<int32_t> positions(count);
    std::iota(positions.begin(), positions.end(), 0);
    const std::array<int32_t, 2> cu_seqlens{0, count};
    const std::array<int32_t, 1> kv_lens{count};
    std::array<int32_t, 2> pages{0, 1};
    const std::array<int32_t, 1> slots{0};
    const Batch batch{tokens,    positions, cu_seqlens, kv_lens, {pages.data(), {1, 2}},
                      positions, slots};
    const ArenaScope scope(ctx.arena);
    const Tensor logits = model->forward(ctx, batch, cache);
    std::vector<std::vector<float>> rows;
    for (int32_t i = 0; i < count; ++i) {
      const float* row = logits.view<float, 2>().row(i);
      rows.emplace_back(row, row + logits.size(1));
    }
    return rows;
  }

  testing::TemporaryFolder folder_;
  io::ModelConfig config_ = testing::tiny_model_config(testing::TinyModel::kBiases);
  CalibrationSet set_ = testing::random_samples(6, 40, 2);
  QuantizeRequest request_;
};

TEST_F(ResumeTest, InterruptedRunsEndInTheSameBytes) {
  for (const std::string recipe : {"w4a8", "fmpq", "w8a8-int", "w8a8-fp8"}) {
    for (const bool with_gate : {true, false}) {
      request_.options = options_of_recipe(recipe, "auto", false).value();
      request_.gate = with_gate ? random_gate(3, 40, 9) : GateSet();
      ASSERT_TRUE(quantize().ok());
      const auto want = bytes_of_files(folder_.file("out"));
      fs::remove_all(folder_.file("out"));
      request_.resume = true;
      expect_interrupted(1);
      expect_interrupted(2);
      const auto report = quantize(2);
      ASSERT_TRUE(report.ok()) << report.error().message;
      EXPECT_EQ(report->linears.size(), 8U);
      EXPECT_EQ(bytes_of_files(folder_.file("out")), want) << recipe;
      EXPECT_FALSE(fs::exists(folder_.file("out.partial")));
      fs::remove_all(folder_.file("out"));
      request_.resume = false;
    }
  }
}

TEST_F(ResumeTest, AKilledRunLosesWhatItWasDoing) {
  ASSERT_TRUE(quantize().ok());
  const auto want = bytes_of_files(folder_.file("out"));
  fs::remove_all(folder_.file("out"));
  expect_interrupted(1);
  // What a kill in the next layer may leave behind.
  const std::string shard = folder_.file("out.partial/model-00001.safetensors.partial");
  std::ofstream(shard, std::ios::binary | std::ios::app) << std::string(1000, 'x');
  std::ofstream(folder_.file("out.partial/resume-2.f32.tmp")) << "x";
  std::ofstream(folder_.file("out.partial/resume.json.tmp")) << "{";
  request_.resume = true;
  expect_interrupted(2);
  // And one between the last tensors and the new name.
  fs::rename(shard, folder_.file("out.partial/model.safetensors"));
  std::ofstream(folder_.file("out.partial/config.json")) << "{}";
  std::ofstream(folder_.file("out.partial/tokenizer.json")) << "old";
  ASSERT_TRUE(quantize().ok());
  EXPECT_EQ(bytes_of_files(folder_.file("out")), want);
}

TEST_F(ResumeTest, BeginsWhereThereIsNothingToResume) {
  request_.resume = true;
  ASSERT_TRUE(quantize().ok());
  const auto want = bytes_of_files(folder_.file("out"));
  fs::remove_all(folder_.file("out"));
  fs::create_directories(folder_.file("out.partial"));  // killed within the first layer
  std::ofstream(folder_.file("out.partial/model-00001.safetensors.partial")) << "x";
  ASSERT_TRUE(quantize().ok());
  EXPECT_EQ(bytes_of_files(folder_.file("out")), want);
  fs::remove_all(folder_.file("out"));
  request_.resume = false;
  expect_interrupted(1);
  ASSERT_TRUE(quantize().ok());  // without --resume the old beginning is replaced
  EXPECT_EQ(bytes_of_files(folder_.file("out")), want);
}

TEST_F(ResumeTest, AnotherRequestIsRefusedAndTheStateStays) {
  expect_interrupted(1);
  const auto before = bytes_of_files(folder_.file("out.partial"));
  request_.resume = true;
  request_.options.damp = 0.02;
  set_.samples.pop_back();
  const auto refused = quantize();
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("options/damp was 0.01, is 0.02"), std::string::npos)
      << refused.error().message;
  EXPECT_NE(refused.error().message.find("calibration/tokens was 240, is 200"), std::string::npos);
  EXPECT_EQ(bytes_of_files(folder_.file("out.partial")), before);
  request_.options.damp = 0.01;
  set_ = testing::random_samples(6, 40, 2);
  fs::resize_file(folder_.file("out.partial/model-00001.safetensors.partial"), 100);
  EXPECT_FALSE(quantize().ok());
  EXPECT_TRUE(fs::exists(folder_.file("out.partial/resume.json")));
}

TEST_F(ResumeTest, TheGateScoresBothModels) {
  const auto report = quantize();
  ASSERT_TRUE(report.ok() && report->gate);
  double before = 0.0;
  double after = 0.0;
  double kl = 0.0;
  for (size_t w = 0; w < request_.gate.targets.size(); ++w) {
    const auto original = logits_of("model", request_.gate.inputs.samples[w]);
    const auto quantized = logits_of("out", request_.gate.inputs.samples[w]);
    for (size_t i = 0; i < original.size(); ++i) {
      before -= nn::log_probability(original[i], request_.gate.targets[w][i]);
      after -= nn::log_probability(quantized[i], request_.gate.targets[w][i]);
      kl += nn::kl_divergence(original[i], quantized[i]);
    }
  }
  EXPECT_EQ(report->gate->num_tokens, 120);
  EXPECT_NEAR(report->gate->perplexity_before, std::exp(before / 120),
              1e-6 * std::exp(before / 120));
  EXPECT_NEAR(report->gate->perplexity_after, std::exp(after / 120), 1e-6 * std::exp(after / 120));
  EXPECT_NEAR(report->gate->kl_mean, kl / 120, 1e-6);
  EXPECT_GT(kl, 0.0);
  const Json written = Json::parse(bytes_of_files(folder_.file("out"))["quant_report.json"]);
  EXPECT_EQ(written["perplexity"]["after"], report->gate->perplexity_after);
  EXPECT_EQ(written["kl_mean"], report->gate->kl_mean);
}

TEST_F(ResumeTest, TheGateWarnsWithTheWorstLinears) {
  QuantReport report;
  for (const double snr : {30.0, 10.0, 25.0, 12.5}) {
    LinearReport& linear = report.linears.emplace_back();
    linear.name = fmt::format("linear{}", snr);
    linear.output_snr_db = snr;
  }
  EXPECT_TRUE(gate_warning(report).empty());
  report.gate = GateResult{100, 10.0, 10.9, 0.05};
  EXPECT_TRUE(gate_warning(report).empty());
  report.gate = GateResult{100, 10.0, 11.2, 0.05};
  const std::string warning = gate_warning(report);
  EXPECT_NE(warning.find("linear10 (10.0 dB), linear12.5 (12.5 dB), linear25"), std::string::npos)
      << warning;
  EXPECT_EQ(warning.find("linear30"), std::string::npos);
  report.gate = GateResult{100, 10.0, 10.1, 0.2};
  EXPECT_FALSE(gate_warning(report).empty());
}

TEST_F(ResumeTest, ActivationsThatOverflowNameTheSite) {
  auto tensors = testing::tiny_tensors(config_);
  for (auto& [name, tensor] : tensors) {
    if (name != "model.layers.1.mlp.up_proj.weight") continue;
    for (int64_t i = 0; i < tensor.num_elements(); ++i) {
      tensor.data<BFloat16>()[i] = to_bfloat16(3e38F);
    }
  }
  testing::write_tiny_checkpoint(folder_.file("model"), testing::TinyModel::kBiases, tensors);
  const auto report = quantize();
  ASSERT_FALSE(report.ok());
  EXPECT_NE(report.error().message.find("model.layers.1.mlp.down_in"), std::string::npos)
      << report.error().message;
  EXPECT_FALSE(fs::exists(folder_.file("out.partial")));  // an error leaves nothing
}

TEST_F(ResumeTest, ChannelsThatAreAlwaysZeroAreCoded) {
  auto tensors = testing::tiny_tensors(config_);
  for (auto& [name, tensor] : tensors) {
    if (name.ends_with("layernorm.weight")) tensor.data<BFloat16>()[5] = to_bfloat16(0.0F);
  }
  testing::write_tiny_checkpoint(folder_.file("model"), testing::TinyModel::kBiases, tensors);
  for (const std::string recipe : {"w4a8", "fmpq", "paper", "w8a8-int", "w8a8-fp8"}) {
    request_.options = options_of_recipe(recipe, "auto", false).value();
    request_.force = true;
    const auto report = quantize();
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_GT(snr_db(report->linears[0]), 10.0) << recipe;
  }
}

TEST(GateWindows, PredictEveryHeldBackTokenOnce) {
  Documents documents(20, std::vector<int32_t>{0});
  documents[18] = {1, 2, 3, 4, 5, 6, 7, 8};
  documents[19] = {11, 12, 13};
  const GateSet set = cut_gate_windows(documents, 5, 100);
  const Documents inputs{{1, 2, 3, 4, 5}, {6, 7}, {11, 12}};
  const Documents targets{{2, 3, 4, 5, 6}, {7, 8}, {12, 13}};
  EXPECT_EQ(set.inputs.samples, inputs);
  EXPECT_EQ(set.targets, targets);
  EXPECT_EQ(cut_gate_windows(documents, 5, 6).inputs.num_tokens(), 6);
  EXPECT_TRUE(cut_gate_windows({{1, 2, 3}}, 5, 6).inputs.samples.empty());
}

}  // namespace
}  // namespace comet::quant
