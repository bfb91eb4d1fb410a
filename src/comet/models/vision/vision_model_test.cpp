// InceptionNeXt and ConvNeXt against timm (goldens of tools/oracle_vision.py), and how checkpoints
// are opened and refused.
#include "comet/models/vision/vision_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "comet/io/safetensors.h"
#include "comet/io/safetensors_writer.h"
#include "support/drawn_vision.h"
#include "support/temporary_folder.h"
#include "support/tensor_map.h"

namespace comet::models {
namespace {

const std::string kGoldens = COMET_SOURCE_DIR "/tests/data/vision/";

struct Golden {
  io::SafetensorsFile file;
  int64_t height, width, num_images, num_classes;

  explicit Golden(const std::string& architecture)
      : file(io::SafetensorsFile::open(kGoldens + architecture + ".safetensors").value()) {
    const Tensor size = file.tensor("image_size").value();
    height = size.data<int32_t>()[0];
    width = size.data<int32_t>()[1];
    num_images = logits().size(0);
    num_classes = logits().size(1);
  }
  [[nodiscard]] Tensor logits() const { return file.tensor("logits").value(); }
  [[nodiscard]] Tensor images() const {
    return testing::draw("images", {num_images, height, width, 3}, 0.0, 1.0);
  }
  /// Of the head, which is all that a known size needs to be told.
  [[nodiscard]] ShapeOf shape_of() const {
    return [classes = num_classes](const std::string& name) -> std::optional<Shape> {
      if (name == "head.fc2.weight" || name == "head.fc.weight") return Shape{classes, 1};
      return std::nullopt;
    };
  }
};

/// max |a − b| / max |b|.
double relative_error(const Tensor& a, const Tensor& b) {
  COMET_CHECK(a.shape() == b.shape(), "{} and {}", a.shape().to_string(), b.shape().to_string());
  double error = 0;
  double largest = 0;
  for (int64_t i = 0; i < a.num_elements(); ++i) {
    const double x = a.data<float>()[i];
    const double y = b.data<float>()[i];
    error = std::isfinite(x) ? std::max(error, std::abs(x - y)) : INFINITY;
    largest = std::max(largest, std::abs(y));
  }
  return error / largest;
}

class Timm : public ::testing::TestWithParam<const char*> {};

TEST_P(Timm, LogitsAreEqual) {
  const Golden golden(GetParam());
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  const auto config = vision_config(GetParam(), golden.shape_of(), "test").value();
  const auto model = load_vision_model(ctx, config, testing::DrawnVision()).value();
  const ArenaScope scope(ctx.arena);
  const double error = relative_error(model->forward(ctx, golden.images()), golden.logits());
  RecordProperty("relative_error", fmt::format("{:.2e}", error));
  EXPECT_LT(error, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Architectures, Timm,
                         ::testing::Values("inception_next_atto", "inception_next_tiny",
                                           "inception_next_small", "inception_next_base",
                                           "convnext_tiny"));

constexpr const char* kAtto = "inception_next_atto";

/// The atto of the golden, loaded on one instruction set.
struct Atto {
  std::unique_ptr<Runtime> runtime;
  std::unique_ptr<VisionModel> model;

  Atto(CpuIsa isa, int num_threads, const Golden& golden)
      : runtime(Runtime::cpu(isa, num_threads)),
        model(load_vision_model(runtime->context(),
                                vision_config(kAtto, golden.shape_of(), "test").value(),
                                testing::DrawnVision())
                  .value()) {}
};

TEST(VisionModel, FeaturesAreTimmsOnEveryInstructionSet) {
  const Golden golden(kAtto);
  const Tensor image = golden.images().slice(0, 0, 1);
  for (const CpuIsa isa : available_cpu_isas()) {
    SCOPED_TRACE(cpu_isa_name(isa));
    const Atto atto(isa, 1, golden);
    Context& ctx = atto.runtime->context();
    const ArenaScope scope(ctx.arena);
    const StageMaps maps = atto.model->features(ctx, image);
    for (size_t i = 0; i < maps.size(); ++i) {
      const Tensor expected = golden.file.tensor(fmt::format("features.{}", i)).value();
      EXPECT_LT(relative_error(maps[i], expected), 1e-4) << i;
    }
  }
}

TEST(VisionModel, AnImageDependsNeitherOnItsCompanyNorOnThreads) {
  const Golden golden(kAtto);
  const Tensor images = golden.images();
  const Atto one(detect_cpu_isa(), 1, golden);
  const Atto two(detect_cpu_isa(), 2, golden);
  Context& ctx = one.runtime->context();
  const ArenaScope scope(ctx.arena);
  const Tensor both = one.model->forward(ctx, images);
  const Tensor last = two.model->forward(two.runtime->context(), images.slice(0, 1, 2));
  EXPECT_EQ(relative_error(last, both.slice(0, 1, 2)), 0);
}

/// All tensors that a small InceptionNeXt or ConvNeXt asks for.
testing::TensorMap small_checkpoint(VisionFamily family, VisionConfig& config) {
  config = {.architecture = family == VisionFamily::kConvNext ? "convnext" : "inception_next",
            .family = family,
            .stages = {},
            .num_classes = 3};
  const bool inception = family == VisionFamily::kInceptionNext;
  for (size_t i = 0; i < config.stages.size(); ++i) {
    const auto channels = static_cast<int64_t>(9 + 4 * i);
    config.stages[i] = {static_cast<int64_t>(1 + i % 2), channels, 2 * channels,
                        inception ? channels / 4 : 0};
  }
  if (inception) {
    config.band = 5;
    config.head_hidden = 11;
  }
  const auto runtime = Runtime::cpu(CpuIsa::kPortable, 1);
  const testing::DrawnVision drawn;
  EXPECT_TRUE(load_vision_model(runtime->context(), config, drawn).ok());
  testing::TensorMap tensors;
  for (const auto& [name, shape] : drawn.asked()) {
    tensors.set(name, testing::draw_parameter(name, shape));
  }
  return tensors;
}

/// A folder with the tensors that `asked` names, and config.json.
void write_checkpoint(const testing::TemporaryFolder& folder, const std::string& config_json,
                      const std::map<std::string, Shape>& asked) {
  folder.write("config.json", config_json);
  auto writer = io::SafetensorsWriter::create(folder.path()).value();
  for (const auto& [name, shape] : asked) {
    ASSERT_TRUE(writer.append(name, testing::draw_parameter(name, shape)).ok());
  }
  ASSERT_TRUE(writer.finish().ok());
}

std::map<std::string, Shape> asked_by(const VisionConfig& config) {
  const auto runtime = Runtime::cpu(CpuIsa::kPortable, 1);
  const testing::DrawnVision drawn;
  EXPECT_TRUE(load_vision_model(runtime->context(), config, drawn).ok());
  return drawn.asked();
}

class Families : public ::testing::TestWithParam<VisionFamily> {};

TEST_P(Families, TensorsSayDepthsWidthsAndClasses) {
  VisionConfig made;
  small_checkpoint(GetParam(), made);
  const std::map<std::string, Shape> asked = asked_by(made);
  const testing::TemporaryFolder folder;
  write_checkpoint(folder, fmt::format(R"({{"architecture": "{}"}})", made.architecture), asked);
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  Context& ctx = runtime->context();
  const auto checkpoint = io::Checkpoint::open(folder.path()).value();
  const auto model = load_vision_model(ctx, checkpoint).value();
  EXPECT_EQ(model->config().num_classes, made.num_classes);
  EXPECT_EQ(model->config().band, made.band);
  EXPECT_EQ(model->config().head_hidden, made.head_hidden);
  for (size_t i = 0; i < made.stages.size(); ++i) {
    EXPECT_EQ(model->config().stages[i].depth, made.stages[i].depth);
    EXPECT_EQ(model->config().stages[i].channels, made.stages[i].channels);
    EXPECT_EQ(model->config().stages[i].hidden, made.stages[i].hidden);
    EXPECT_EQ(model->config().stages[i].branch, made.stages[i].branch);
  }
  const ArenaScope scope(ctx.arena);
  const Tensor image = testing::draw("images", {1, kMinImageSize, kMinImageSize + 5, 3}, 0.0, 1.0);
  const Tensor logits = model->forward(ctx, image);
  const auto direct = load_vision_model(ctx, made, testing::DrawnVision()).value();
  EXPECT_EQ(relative_error(logits, direct->forward(ctx, image)), 0);
}

INSTANTIATE_TEST_SUITE_P(Both, Families,
                         ::testing::Values(VisionFamily::kInceptionNext, VisionFamily::kConvNext));

TEST(VisionModel, ErrorsNameTensorExpectedAndFoundShape) {
  const auto runtime = Runtime::cpu(CpuIsa::kPortable, 1);
  VisionConfig config;
  testing::TensorMap tensors = small_checkpoint(VisionFamily::kInceptionNext, config);
  const std::string name = "stages.1.blocks.0.token_mixer.dwconv_w.weight";
  tensors.set(name, testing::draw_parameter(name, {3, 1, 1, 7}));
  const auto wrong = load_vision_model(runtime->context(), config, tensors);
  ASSERT_FALSE(wrong.ok());
  for (const char* part : {name.c_str(), "[3, 1, 1, 7]", "[3, 1, 1, 5]"}) {
    EXPECT_NE(wrong.error().message.find(part), std::string::npos) << wrong.error().message;
  }
  tensors.erase(name);
  const auto missing = load_vision_model(runtime->context(), config, tensors);
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().message.find(name), std::string::npos) << missing.error().message;
}

TEST(VisionModel, NegativeVariancesAreRefused) {
  const auto runtime = Runtime::cpu(CpuIsa::kPortable, 1);
  VisionConfig config;
  testing::TensorMap tensors = small_checkpoint(VisionFamily::kInceptionNext, config);
  tensors.at("stem.1.running_var").data<float>()[2] = -1.0F;
  const auto model = load_vision_model(runtime->context(), config, tensors);
  ASSERT_FALSE(model.ok());
  EXPECT_NE(model.error().message.find("stem.1.running_var"), std::string::npos);
}

TEST(VisionModel, ConfigsOfOthersAreRefused) {
  VisionConfig made;
  small_checkpoint(VisionFamily::kConvNext, made);
  const std::map<std::string, Shape> asked = asked_by(made);
  const auto runtime = Runtime::cpu(CpuIsa::kPortable, 1);
  struct Case {
    const char* json;
    const char* part;
  };
  for (const Case& c :
       {Case{R"({"model_type": "llama"})", "'architecture' is missing"},
        Case{R"({"architecture": "resnet50"})", "inception_next_tiny"},
        Case{R"({"architecture": "convnext", "num_classes": 4})", "have 3 classes"},
        Case{R"({"architecture": "inception_next"})", "dwconv_w.weight' is missing"},
        Case{R"({"architecture": "convnext_tiny"})", "[96, 3, 4, 4]"}}) {
    const testing::TemporaryFolder folder;
    write_checkpoint(folder, c.json, asked);
    const auto checkpoint = io::Checkpoint::open(folder.path()).value();
    const auto model = load_vision_model(runtime->context(), checkpoint);
    ASSERT_FALSE(model.ok()) << c.json;
    EXPECT_NE(model.error().message.find(c.part), std::string::npos) << model.error().message;
  }
}

TEST(VisionModel, SmallImagesBreakThePromise) {
  VisionConfig config;
  small_checkpoint(VisionFamily::kConvNext, config);
  const auto runtime = Runtime::cpu(CpuIsa::kPortable, 1);
  const auto model = load_vision_model(runtime->context(), config, testing::DrawnVision()).value();
  const Tensor image = testing::draw("images", {1, kMinImageSize - 1, 40, 3}, 0.0, 1.0);
  EXPECT_THROW(model->forward(runtime->context(), image), CheckError);
}

}  // namespace
}  // namespace comet::models
