// A synthetic model made on the GPU against the one made on the CPU: the same bytes where they are
// drawn, and the same function, for every format; and greedy steps that stay finite.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "comet/device/host_memory.h"
#include "comet/models/synthetic/random_tensors.h"
#include "support/gpu.h"
#include "support/last_logits.h"

namespace comet::models {
namespace {

SyntheticOptions options_of(const std::string& format, formats::Granularity granularity,
                            bool int8_head) {
  SyntheticOptions options;
  options.format = format;
  options.granularity = granularity;
  options.int8_lm_head = int8_head;
  // Progressive weights have no mean, and a random network of such amplifies every flip of a 4-bit
  // code: kv8 in place of kv16 moves logits by 36 % on the CPU alone (4 % with 8-bit inputs).
  options.int8_share = granularity == formats::Granularity::kProgressive ? 1.0 : 0.5;
  options.seed = 11;
  return options;
}

std::vector<SyntheticOptions> all_options() {
  using formats::Granularity;
  return {options_of("dense", Granularity::kGroup, false),
          options_of("w4ax", Granularity::kChannel, false),
          options_of("w4ax", Granularity::kGroup, true),
          options_of("w4ax", Granularity::kProgressive, false),
          options_of("w4a16", Granularity::kGroup, false),
          options_of("w8a8-int", Granularity::kChannel, false),
          options_of("w8a8-fp8", Granularity::kChannel, true)};
}

TEST(SyntheticCuda, DrawsTheBytesOfTheCpu) {
  const auto gpu = Runtime::cuda(0, 2);
  if (!gpu.ok()) GTEST_SKIP() << "no GPU";
  auto cpu = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = (*gpu)->context();
  const io::ModelConfig config = synthetic_config("110m").value();
  const std::array cases{std::pair{"a.weight", DType::kBF16}, std::pair{"a.weight", DType::kI8},
                         std::pair{"a.weight", DType::kF8E4M3},
                         std::pair{"a.weight_packed", DType::kU8},
                         std::pair{"b.weight_packed", DType::kI32}};
  for (const auto& [name, dtype] : cases) {
    SCOPED_TRACE(std::string(name) + " " + std::string(dtype_name(dtype)));
    const std::array types{dtype};
    const Shape shape{333, 129};
    const Tensor want = RandomTensors(cpu->context(), config, {}).get(name, types, shape).value();
    const Tensor made = RandomTensors(ctx, config, {}).get(name, types, shape).value();
    EXPECT_FALSE(is_host_memory(made.raw()));
    const Tensor got = copy_to_host(ctx, made);
    EXPECT_EQ(std::memcmp(got.raw(), want.raw(), static_cast<size_t>(want.num_bytes())), 0);
  }
}

TEST(SyntheticCuda, ComputesWhatTheCpuComputes) {
  const auto gpu = Runtime::cuda(0, 2);
  if (!gpu.ok()) GTEST_SKIP() << "no GPU";
  auto cpu = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = (*gpu)->context();
  for (const SyntheticOptions& options : all_options()) {
    SCOPED_TRACE(options.format + " " + std::string(granularity_name(options.granularity)));
    std::vector<int32_t> tokens{1, 500, 31999, 42, 7};
    const auto host = make_synthetic_model(cpu->context(), "110m", options).value();
    const auto model = make_synthetic_model(ctx, "110m", options).value();
    const std::vector<float> want = testing::last_logits(cpu->context(), *host, tokens);
    EXPECT_LT(testing::relative_distance(testing::last_logits(ctx, *model, tokens), want), 0.1);
    for (int step = 0; step < 4; ++step) {
      const std::vector<float> logits = testing::last_logits(ctx, *model, tokens);
      ASSERT_TRUE(std::ranges::all_of(logits, [](float x) { return std::isfinite(x); }));
      tokens.push_back(static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin()));
    }
  }
}

TEST(SyntheticCuda, SaysBeforeItBeginsThatMemoryIsShort) {
  const auto gpu = Runtime::cuda(0, 2);
  if (!gpu.ok()) GTEST_SKIP() << "no GPU";
  SyntheticOptions dense;  // 141 GB
  const int64_t free_bytes = free_gpu_bytes();
  if (free_bytes > int64_t{141'000'000'000}) GTEST_SKIP() << "the GPU has room for it";
  const auto model = make_synthetic_model((*gpu)->context(), "llama3-70b", dense);
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().code, ErrorCode::kResourceExhausted);
  EXPECT_NE(model.error().message.find("141.1 GB of GPU memory"), std::string::npos)
      << model.error().message;
  EXPECT_NEAR(static_cast<double>(free_gpu_bytes()), static_cast<double>(free_bytes), 1e9);
}

}  // namespace
}  // namespace comet::models
