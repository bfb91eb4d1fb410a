// A whole model quantized on a GPU and on the CPU: the quality gate must see the same of both.
#include "comet/quant/quantize_model.h"
#include "support/temporary_folder.h"
#include "support/tiny_llama.h"

#include <gtest/gtest.h>

#include <cmath>

namespace comet::quant {
namespace {

/// The tiny model with heads that attention on a GPU has kernels for.
Json wide_config(testing::TinyModel variant, int64_t ffn) {
  Json config = testing::tiny_config(variant);
  config["hidden_size"] = 256;
  config["intermediate_size"] = ffn;
  config["num_attention_heads"] = 4;
  config["num_key_value_heads"] = 2;
  config["head_dim"] = 64;
  return config;
}

void write_model(const std::string& directory, testing::TinyModel variant, int64_t ffn) {
  const Json json = wide_config(variant, ffn);
  const auto config = io::parse_model_config(json, "config.json").value();
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  io::write_file_atomic(directory + "/config.json", json.dump()).value();
  io::write_file_atomic(directory + "/tokenizer.json", "{}").value();
  auto writer = io::SafetensorsWriter::create(directory).value();
  for (const auto& [name, tensor] : testing::tiny_tensors(config)) {
    // Logits of about 1, as a trained model has: with those of the tiny model, 16 times as large,
    // KL divergence hangs on a few tokens where two logits are close.
    const bool is_last_norm = name == "model.norm.weight";
    const Tensor small = testing::random_tensor(tensor.shape(), 7, 0.06F, 0.01F);
    writer.append(name, is_last_norm ? small : tensor).value();
  }
  writer.finish().value();
}

class QuantizeCudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto runtime = Runtime::cuda(0, 2);
    if (!runtime.ok()) GTEST_SKIP() << runtime.error().message;
    gpu_ = *std::move(runtime);
    cpu_ = Runtime::cpu(detect_cpu_isa(), 2);
    gate_.inputs = testing::random_samples(6, 50, 5);
    gate_.targets = testing::random_samples(6, 50, 6).samples;
  }
  Result<QuantReport> quantize(Context& ctx, const QuantizeOptions& options,
                               const std::string& out) {
    const auto checkpoint = io::Checkpoint::open(folder_.file("model"));
    if (!checkpoint) return checkpoint.error();
    const QuantizeRequest request{
        .options = options, .out_dir = folder_.file(out), .force = true, .gate = gate_};
    return quantize_model(ctx, *checkpoint, request, set_);
  }
  /// Asserts that both devices' models are as far from the original.
  void compare(const QuantizeOptions& options, const std::string& what) {
    const auto of_cpu = quantize(cpu_->context(), options, "of_cpu");
    ASSERT_TRUE(of_cpu.ok()) << of_cpu.error().message;
    const auto of_gpu = quantize(gpu_->context(), options, "of_gpu");
    ASSERT_TRUE(of_gpu.ok()) << what << ": " << of_gpu.error().message;
    const GateResult& want = *of_cpu->gate;
    const GateResult& got = *of_gpu->gate;
    // Nats a token: targets are random, so what roundings do to one of them is noise.
    const double nats_before = std::log(want.perplexity_before);
    const double nats_after = std::log(want.perplexity_after);
    EXPECT_NEAR(std::log(got.perplexity_before), nats_before, 3e-3 * nats_before) << what;
    EXPECT_NEAR(std::log(got.perplexity_after), nats_after, 1e-2 * nats_after) << what;
    EXPECT_NEAR(got.kl_mean, want.kl_mean, 0.3 * want.kl_mean + 2e-5) << what;
    for (size_t i = 0; i < of_cpu->linears.size(); ++i) {
      const LinearReport& linear = of_cpu->linears[i];
      // A search of the smoothing strength may end at the next step of its grid where two are as
      // good: then weights differ, outputs do not.
      if (linear.output_snr_db) {
        EXPECT_NEAR(*of_gpu->linears[i].output_snr_db, *linear.output_snr_db, 0.5)
            << what << " " << linear.name;
      } else {
        EXPECT_NEAR(of_gpu->linears[i].weight_snr_db, linear.weight_snr_db, 0.3)
            << what << " " << linear.name;
      }
    }
  }

  std::unique_ptr<Runtime> gpu_;
  std::unique_ptr<Runtime> cpu_;
  testing::TemporaryFolder folder_;
  CalibrationSet set_ = testing::random_samples(20, 60, 2);
  GateSet gate_;
};

TEST_F(QuantizeCudaTest, EveryRecipeGivesTheCpusQuality) {
  for (const testing::TinyModel variant :
       {testing::TinyModel::kLlama, testing::TinyModel::kBiases, testing::TinyModel::kQwen3}) {
    const std::string suffix = " of model " + std::to_string(static_cast<int>(variant));
    write_model(folder_.file("model"), variant, 320);  // padded channels
    for (const std::string recipe : {"w4a8", "fmpq", "paper", "naive"}) {
      compare(options_of_recipe(recipe, "sm90", false).value(), recipe + suffix);
    }
    write_model(folder_.file("model"), variant, 384);
    for (const std::string recipe : {"w4a16", "w8a8-int", "w8a8-fp8"}) {
      compare(options_of_recipe(recipe, "sm90", false).value(), recipe + suffix);
    }
  }
}

TEST_F(QuantizeCudaTest, TheSameRunGivesTheSameFile) {
  write_model(folder_.file("model"), testing::TinyModel::kLlama, 320);
  const QuantizeOptions options = options_of_recipe("fmpq", "sm90", false).value();
  std::array<std::string, 2> files;
  for (std::string& file : files) {
    ASSERT_TRUE(quantize(gpu_->context(), options, "out").ok());
    file = io::read_file(folder_.file("out") + "/model.safetensors", 1 << 28).value();
  }
  EXPECT_EQ(files[0], files[1]);
}

TEST_F(QuantizeCudaTest, WhatAttentionOnAGpuLacksIsAnError) {
  write_model(folder_.file("model"), testing::TinyModel::kLlama, 320);
  QuantizeOptions options = options_of_recipe("w4a8", "sm90", false).value();
  options.kv_options.window_recent = 8;
  const auto report = quantize(gpu_->context(), options, "out");
  ASSERT_FALSE(report.ok());
  EXPECT_NE(report.error().message.find("--device cpu"), std::string::npos)
      << report.error().message;
  EXPECT_FALSE(std::filesystem::exists(folder_.file("out")));
}

}  // namespace
}  // namespace comet::quant
