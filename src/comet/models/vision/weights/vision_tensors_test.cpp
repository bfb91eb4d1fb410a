// The list of a classifier's tensors is what its loader asks for; other checkpoints are told apart.
#include "comet/models/vision/weights/vision_tensors.h"

#include <gtest/gtest.h>

#include <map>

#include "comet/io/safetensors_writer.h"
#include "comet/models/vision/vision_model.h"
#include "support/drawn_vision.h"
#include "support/temporary_folder.h"

namespace comet::models {
namespace {

/// A network of one block a stage, so that checkpoints are small.
VisionConfig small_config(VisionFamily family) {
  const bool inception = family == VisionFamily::kInceptionNext;
  VisionConfig config;
  config.architecture = inception ? "inception_next" : "convnext";
  config.family = family;
  config.num_classes = 3;
  config.band = inception ? 5 : 0;
  config.head_hidden = inception ? 12 : 0;
  for (size_t i = 0; i < config.stages.size(); ++i) {
    const int64_t channels = 8 * static_cast<int64_t>(i + 1);
    config.stages[i] = {1, channels, 2 * channels, inception ? channels / 4 : 0};
  }
  return config;
}

/// The error of a folder with the tensors of `config`, but `left_out`, and that config.json.
std::string error_of(const VisionConfig& config, const char* json, std::string_view left_out = "") {
  const testing::TemporaryFolder folder;
  folder.write("config.json", json);
  auto writer = io::SafetensorsWriter::create(folder.path()).value();
  for (const VisionTensor& tensor : vision_tensors(config)) {
    if (tensor.name == left_out) continue;
    EXPECT_TRUE(writer.append(tensor.name, testing::draw_parameter(tensor.name, tensor.shape)));
  }
  EXPECT_TRUE(writer.finish());
  const Status checked = check_vision_checkpoint(io::Checkpoint::open(folder.path()).value());
  if (checked) return "";
  // Without the folder's name.
  return checked.error().message.substr(folder.path().size());
}

TEST(VisionTensors, AreWhatTheLoadersAskFor) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  for (const auto family : {VisionFamily::kInceptionNext, VisionFamily::kConvNext}) {
    const VisionConfig config = small_config(family);
    const testing::DrawnVision source;
    ASSERT_TRUE(load_vision_model(runtime->context(), config, source));
    std::map<std::string, Shape> listed;
    for (const VisionTensor& tensor : vision_tensors(config)) {
      EXPECT_TRUE(listed.emplace(tensor.name, tensor.shape).second) << tensor.name;
    }
    EXPECT_EQ(listed, source.asked());
  }
}

TEST(VisionTensors, CheckpointsOfOthersAreToldApart) {
  const VisionConfig inception = small_config(VisionFamily::kInceptionNext);
  const VisionConfig convnext = small_config(VisionFamily::kConvNext);
  EXPECT_EQ(error_of(inception, R"({"architecture": "inception_next"})"), "");
  EXPECT_EQ(error_of(convnext, R"({"architecture": "convnext", "num_classes": 3})"), "");
  EXPECT_EQ(error_of(inception, R"({"architecture": "inception_next"})", "head.norm.bias"),
            "/config.json: the tensors are not those of inception_next: 1 missing "
            "(head.norm.bias)");
  VisionConfig wide = inception;
  wide.stages[3].depth = 2;
  const std::string other = error_of(wide, R"({"architecture": "convnext_tiny"})");
  for (const char* part :
       {"not those of convnext_tiny: ", " missing (head.fc.bias, ", " too many (head.fc1.bias, ",
        "gamma [8] instead of [96]", "; the tensors are those of inception_next: correct"}) {
    EXPECT_NE(other.find(part), std::string::npos) << other;
  }
}

}  // namespace
}  // namespace comet::models
