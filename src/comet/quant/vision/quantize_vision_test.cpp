// Small classifiers of both families in every format: what is written, that it loads and computes
// what the original does within the format's error, and what is refused.
#include "comet/quant/vision/quantize_vision.h"

#include <gtest/gtest.h>

#include "comet/io/file.h"
#include "comet/models/vision/vision_model.h"
#include "comet/quant/vision/vision_case.h"

namespace comet::quant {
namespace {

using models::VisionConfig;
using models::VisionFamily;

struct Case {
  const char* format;
  double max_relative_rms;  // of logits; roundings of five blocks' inputs and weights

  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.format; }
};

class VisionFormats : public ::testing::TestWithParam<std::tuple<Case, VisionFamily>> {};

TEST_P(VisionFormats, LoadAndComputeWhatTheOriginalDoes) {
  const auto& [c, family] = GetParam();
  const VisionConfig config = small_config(family);
  const testing::TemporaryFolder folder;
  write_original(folder, config);
  const testing::TemporaryFolder out;
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  const auto original = io::Checkpoint::open(folder.path()).value();
  const auto report =
      quantize_vision(ctx, original, request_of(c.format, out.path() + "/quantized"));
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(report->linears.size(), models::vision_products(config).size() - 1);
  EXPECT_EQ(report->num_calibration_images, 5);
  EXPECT_EQ(report->gate->num_images, 2);

  const auto written = io::Checkpoint::open(out.path() + "/quantized").value();
  const Status checked = models::check_vision_checkpoint(written);
  EXPECT_TRUE(checked) << checked.error().message;
  EXPECT_FALSE(written.contains("stages.0.blocks.0.gamma"));
  EXPECT_EQ(written.contains("stages.0.blocks.0.norm.weight"), family == VisionFamily::kConvNext);
  const auto model = models::load_vision_model(ctx, written);
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ((*model)->config().stages[2].hidden, config.stages[2].hidden);
  (*model)->for_each_product([&](nn::Linear& linear) {
    EXPECT_EQ(linear.weight().format->name, linear.spec().name == "stem.0" ? "dense" : c.format);
  });
  const auto reference = models::load_vision_model(ctx, original).value();
  const Tensor images = drawn_images("others", 4);
  const ArenaScope scope(ctx.arena);
  const double error =
      relative_rms((*model)->forward(ctx, images), reference->forward(ctx, images));
  RecordProperty("relative_rms", fmt::format("{:.2e}", error));
  EXPECT_LT(error, c.max_relative_rms);
  EXPECT_GT(error, 1e-6);  // it is not the original
}

INSTANTIATE_TEST_SUITE_P(
    All, VisionFormats,
    ::testing::Combine(::testing::Values(Case{"w8a8-int", 0.03}, Case{"w8a8-fp8", 0.2},
                                         Case{"w4a16", 0.3}, Case{"w4ax", 0.3}),
                       ::testing::Values(VisionFamily::kInceptionNext, VisionFamily::kConvNext)));

TEST(QuantizeVision, FilesDoNotDependOnThreads) {
  const testing::TemporaryFolder folder;
  write_original(folder, small_config(VisionFamily::kInceptionNext));
  const auto original = io::Checkpoint::open(folder.path()).value();
  std::vector<std::string> bytes;
  for (const int num_threads : {1, 2}) {
    const testing::TemporaryFolder out;
    const auto runtime = Runtime::cpu(detect_cpu_isa(), num_threads);
    const std::string to = out.path() + "/quantized";
    ASSERT_TRUE(quantize_vision(runtime->context(), original, request_of("w8a8-int", to)).ok());
    std::string all;
    for (const char* name : {"/model.safetensors", "/config.json", "/quant_report.json"}) {
      all += io::read_file(to + name, size_t{1} << 24).value();
    }
    bytes.push_back(std::move(all));
  }
  EXPECT_EQ(bytes[0], bytes[1]);
}

std::string error_of(const std::string& model, const VisionQuantizeRequest& request) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  const auto report =
      quantize_vision(runtime->context(), io::Checkpoint::open(model).value(), request);
  return report.ok() ? "" : report.error().message;
}

TEST(QuantizeVision, BadInputIsNamed) {
  const testing::TemporaryFolder folder;
  write_original(folder, small_config(VisionFamily::kConvNext));
  const testing::TemporaryFolder out;
  const std::string to = out.path() + "/quantized";
  VisionQuantizeRequest request = request_of("w8a8-int", to);
  request.calibration.clear();
  EXPECT_NE(error_of(folder.path(), request).find("needs images to calibrate on"),
            std::string::npos);
  request = request_of("w8a8-fp8", to);
  request.calibration.clear();
  ASSERT_EQ(error_of(folder.path(), request), "");  // rounds weights only
  EXPECT_NE(error_of(folder.path(), request).find("exists"), std::string::npos);
  request.out_dir += "-again";
  EXPECT_NE(error_of(to, request).find("quantized already"), std::string::npos);

  const testing::TemporaryFolder poisoned;
  write_original(poisoned, small_config(VisionFamily::kConvNext), "stages.1.blocks.0.mlp.fc1.bias");
  request = request_of("w8a8-fp8", out.path() + "/poisoned");
  request.calibration.clear();
  EXPECT_NE(error_of(poisoned.path(), request).find("'stages.1.blocks.0.mlp.fc1'"),
            std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(out.path() + "/poisoned"));
}

TEST(QuantizeVision, MissingAndForeignTensorsAreNamed) {
  const testing::TemporaryFolder folder;
  const VisionConfig config = small_config(VisionFamily::kInceptionNext);
  write_original(folder, config);
  const testing::TemporaryFolder out;
  const std::string to = out.path() + "/quantized";
  ASSERT_EQ(error_of(folder.path(), request_of("w4a16", to)), "");
  const testing::TemporaryFolder broken;
  broken.write("config.json", io::read_file(to + "/config.json", size_t{1} << 20).value());
  const auto whole = io::Checkpoint::open(to).value();
  auto writer = io::SafetensorsWriter::create(broken.path()).value();
  for (const std::string& name : whole.names()) {
    if (name.starts_with("head.fc2.")) continue;
    ASSERT_TRUE(writer.append(name, whole.tensor(name).value()));
  }
  ASSERT_TRUE(writer.append("stages.0.blocks.0.gamma", testing::draw("x", {8}, 0, 1)));
  ASSERT_TRUE(writer.finish());
  const Status checked =
      models::check_vision_checkpoint(io::Checkpoint::open(broken.path()).value());
  ASSERT_FALSE(checked);
  for (const char* part : {"1 missing (head.fc2.bias)", "1 too many (stages.0.blocks.0.gamma)"}) {
    EXPECT_NE(checked.error().message.find(part), std::string::npos) << checked.error().message;
  }
}

}  // namespace
}  // namespace comet::quant
