// A checkpoint of random weights loads as any other and is the model that the same options make in
// memory, for every format.
#include "comet/quant/export/synthetic_checkpoint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "support/last_logits.h"
#include "support/temporary_folder.h"

namespace comet::quant {
namespace {

using formats::ActScale;
using formats::Granularity;

models::SyntheticOptions w4ax(Granularity granularity, ActScale scale, double int8_share,
                              bool int8_head) {
  models::SyntheticOptions options;
  options.format = "w4ax";
  options.kv = "kv4";
  options.granularity = granularity;
  options.act_scale = scale;
  options.int8_share = int8_share;
  options.int8_lm_head = int8_head;
  options.seed = 7;
  return options;
}

models::SyntheticOptions plain(const std::string& format) {
  models::SyntheticOptions options;
  options.format = format;
  options.seed = 7;
  return options;
}

TEST(SyntheticCheckpoint, IsTheModelMadeInMemory) {
  auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  const std::vector<models::SyntheticOptions> all{
      w4ax(Granularity::kProgressive, ActScale::kS2h, 0.25, true),
      w4ax(Granularity::kGroup, ActScale::kS1, 1.0, false),
      w4ax(Granularity::kChannel, ActScale::kS2, 0.0, false),
      plain("w4a16"),
      plain("w8a8-int"),
      plain("w8a8-fp8"),
      plain("dense")};
  for (const models::SyntheticOptions& options : all) {
    SCOPED_TRACE(options.format);
    const testing::TemporaryFolder folder;
    const std::string out = folder.path() + "/model";
    int64_t num_layers = 0;
    const auto num_bytes = write_synthetic_checkpoint(
        ctx, {"110m", options, out, false, "", [&](int64_t done) { num_layers = done; }});
    ASSERT_TRUE(num_bytes.ok()) << num_bytes.error().message;
    EXPECT_EQ(num_layers, 12);
    EXPECT_EQ(*num_bytes, static_cast<int64_t>(io::Checkpoint::open(out).value().total_bytes()));
    const std::vector<int32_t> tokens{1, 500, 31999, 42, 7};
    const auto model = models::make_synthetic_model(ctx, "110m", options).value();
    const std::vector<float> want = testing::last_logits(ctx, *model, tokens);
    EXPECT_EQ(testing::last_logits(out, tokens), want);
    EXPECT_TRUE(std::isfinite(want[0]) && want[0] != want[1]);
    EXPECT_FALSE(std::filesystem::exists(out + ".partial"));
  }
}

TEST(SyntheticCheckpoint, RefusesWhatItCannotWrite) {
  auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  const testing::TemporaryFolder folder;
  const auto error_of = [&](const std::string& name, models::SyntheticOptions options) {
    const auto written = write_synthetic_checkpoint(
        runtime->context(), {name, std::move(options), folder.path() + "/model", false, "", {}});
    EXPECT_FALSE(std::filesystem::exists(folder.path() + "/model.partial"));
    return written.ok() ? std::string("no error") : written.error().message;
  };
  models::SyntheticOptions int8_head = plain("w4a16");
  int8_head.int8_lm_head = true;
  EXPECT_NE(error_of("110m", int8_head).find("--format w4ax"), std::string::npos);
  EXPECT_NE(error_of("llama9", plain("w4a16")).find("llama3-70b"), std::string::npos);
}

}  // namespace
}  // namespace comet::quant
