#include "comet/quant/run/forecast.h"

#include <gtest/gtest.h>

#include <fstream>

#include "support/temporary_folder.h"
#include "support/tiny_llama.h"

namespace comet::quant {
namespace {

class ForecastTest : public ::testing::Test {
 protected:
  ForecastTest() {
    testing::write_tiny_checkpoint(folder_.file("model"), testing::TinyModel::kLlama,
                                   testing::tiny_tensors(config_));
  }
  QuantizeForecast of(const std::string& recipe, int64_t num_samples, int64_t num_gate_tokens) {
    QuantizeOptions options = options_of_recipe(recipe, "cpu", false).value();
    fit_cache_options(options, config_);
    return forecast(io::Checkpoint::open(folder_.file("model")).value(), config_, options,
                    testing::random_samples(num_samples, 40, 1), num_gate_tokens);
  }

  testing::TemporaryFolder folder_;
  io::ModelConfig config_ = testing::tiny_model_config(testing::TinyModel::kLlama);
};

TEST_F(ForecastTest, GrowsWithTheWork) {
  const QuantizeForecast base = of("w4a8", 4, 0);
  EXPECT_GT(base.flops, 0.0);
  EXPECT_DOUBLE_EQ(base.seconds(1e6), base.flops / 1e6);
  const QuantizeForecast more = of("w4a8", 8, 0);
  EXPECT_GT(more.flops, base.flops);
  EXPECT_GT(more.peak_memory_bytes, base.peak_memory_bytes);
  EXPECT_EQ(more.scratch_bytes, 2 * base.scratch_bytes);
  EXPECT_EQ(more.output_bytes, base.output_bytes);
  const QuantizeForecast gated = of("w4a8", 4, 100);
  EXPECT_GT(gated.flops, base.flops);
  EXPECT_GT(gated.scratch_bytes, base.scratch_bytes);
  const QuantizeForecast clip = of("paper", 4, 0);  // no Hessians
  EXPECT_LT(clip.flops, base.flops);
  EXPECT_LT(clip.peak_memory_bytes, base.peak_memory_bytes);
}

TEST_F(ForecastTest, EightBits) {
  const QuantizeForecast four = of("w4a8", 4, 0);
  const QuantizeForecast integers = of("w8a8-int", 4, 0);
  EXPECT_GT(integers.output_bytes, four.output_bytes);
  EXPECT_GT(integers.peak_memory_bytes, 0);
  const QuantizeForecast floats = of("w8a8-fp8", 0, 0);  // no text goes through the layers
  EXPECT_LT(floats.flops, integers.flops);
  EXPECT_LT(floats.peak_memory_bytes, integers.peak_memory_bytes);
  EXPECT_EQ(floats.output_bytes, integers.output_bytes);
  EXPECT_EQ(floats.scratch_bytes, 0);
  EXPECT_GT(of("w8a8-fp8", 0, 100).flops, floats.flops);  // the gate
}

TEST_F(ForecastTest, StopsWhereAGpuHasTooLittleMemory) {
  const QuantizeForecast gptq = of("w4a8", 4, 0);
  EXPECT_GT(gptq.peak_device_bytes, int64_t{512} << 20);
  EXPECT_TRUE(check_device_memory(gptq, std::nullopt).ok());
  EXPECT_TRUE(check_device_memory(gptq, gptq.peak_device_bytes).ok());
  const Status status = check_device_memory(gptq, gptq.peak_device_bytes - 1);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find(std::to_string(gptq.peak_device_bytes)), std::string::npos);
}

TEST_F(ForecastTest, StopsWhereDiskOrMemoryDoNotSuffice) {
  QuantizeForecast wanted;
  EXPECT_TRUE(check_resources(wanted, folder_.file("out"), false).ok());
  wanted.output_bytes = int64_t{1} << 60;
  const Status disk = check_resources(wanted, folder_.file("out"), false);
  ASSERT_FALSE(disk.ok());
  EXPECT_NE(disk.error().message.find("free some space"), std::string::npos);
  wanted.output_bytes = 0;
  wanted.peak_memory_bytes = int64_t{1} << 60;
  const Status memory = check_resources(wanted, folder_.file("out"), false);
  ASSERT_FALSE(memory.ok());
  EXPECT_NE(memory.error().message.find("bytes of memory"), std::string::npos);
}

TEST_F(ForecastTest, AResumedRunHasItsPartAlready) {
  std::filesystem::create_directories(folder_.file("out.partial"));
  std::ofstream(folder_.file("out.partial/shard")) << "x";
  std::filesystem::resize_file(folder_.file("out.partial/shard"), uintmax_t{1} << 43);  // sparse
  QuantizeForecast wanted;
  wanted.output_bytes = int64_t{1} << 43;
  EXPECT_FALSE(check_resources(wanted, folder_.file("out"), false).ok());
  EXPECT_TRUE(check_resources(wanted, folder_.file("out"), true).ok());
}

TEST_F(ForecastTest, MeasuresARate) {
  auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  EXPECT_GT(measure_flops_per_second(runtime->context()), 1e6);
}

}  // namespace
}  // namespace comet::quant
