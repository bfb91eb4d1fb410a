// Image classifiers on a GPU (BF16) against the CPU (FP32) with the same drawn weights: logits, the
// four maps, a replayed graph.
#include <gtest/gtest.h>

#include <cmath>

#include "comet/device/cuda/cuda_resources.h"
#include "comet/device/cuda/graph.h"
#include "comet/models/vision/vision_model.h"
#include "support/drawn_vision.h"

namespace comet::models {
namespace {

/// Logits of BF16 activations (relative step 2⁻⁸) through up to 36 blocks: errors of roundings that
/// do not depend on one another, measured against the spread of the logits.
constexpr double kMaxRelativeRms = 0.03;

struct Case {
  const char* architecture;
  int64_t num_images, height, width;

  // NOLINTNEXTLINE(readability-identifier-naming): GoogleTest's
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.architecture; }
};

std::vector<float> floats(const Tensor& host) {
  std::vector<float> values;
  for (int64_t i = 0; i < host.num_elements(); ++i) {
    values.push_back(host.dtype() == DType::kF32 ? host.data<float>()[i]
                                                 : to_float(host.data<BFloat16>()[i]));
  }
  return values;
}

/// rms(a − b) / rms(b − mean(b)).
double relative_rms(const std::vector<float>& a, const std::vector<float>& b) {
  double mean = 0;
  for (const float x : b) mean += x / static_cast<double>(b.size());
  double error = 0;
  double spread = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    error += std::pow(double{a[i]} - b[i], 2);
    spread += std::pow(b[i] - mean, 2);
  }
  return std::sqrt(error / spread);
}

VisionConfig config_of(const char* architecture) {
  const ShapeOf shape_of = [](const std::string& name) -> std::optional<Shape> {
    if (name == "head.fc2.weight" || name == "head.fc.weight") return Shape{1000, 1};
    return std::nullopt;
  };
  return vision_config(architecture, shape_of, "test").value();
}

class VisionCuda : public ::testing::TestWithParam<Case> {};

TEST_P(VisionCuda, LogitsAndMapsAreTheCpusWithinBf16) {
  auto gpu = Runtime::cuda(0, 2);
  if (!gpu.ok()) GTEST_SKIP() << "no GPU";
  const auto cpu = Runtime::cpu(detect_cpu_isa(), 8);
  const Case& c = GetParam();
  const VisionConfig config = config_of(c.architecture);
  Context& cpu_ctx = cpu->context();
  Context& gpu_ctx = (*gpu)->context();
  const auto on_cpu = load_vision_model(cpu_ctx, config, testing::DrawnVision()).value();
  const auto on_gpu = load_vision_model(gpu_ctx, config, testing::DrawnVision()).value();
  const Tensor images = testing::draw("images", {c.num_images, c.height, c.width, 3}, 0.0, 1.0);
  const Tensor gpu_images = copy_to_device(gpu_ctx, images);
  const ArenaScope cpu_scope(cpu_ctx.arena);
  const ArenaScope gpu_scope(gpu_ctx.arena);
  const Tensor expected = on_cpu->forward(cpu_ctx, images);
  const Tensor logits = on_gpu->forward(gpu_ctx, gpu_images);
  const double error = relative_rms(floats(copy_to_host(gpu_ctx, logits)), floats(expected));
  RecordProperty("relative_rms", fmt::format("{:.2e}", error));
  EXPECT_LT(error, kMaxRelativeRms);
  const StageMaps expected_maps = on_cpu->features(cpu_ctx, images);
  const StageMaps maps = on_gpu->features(gpu_ctx, gpu_images);
  for (size_t i = 0; i < maps.size(); ++i) {
    EXPECT_LT(relative_rms(floats(copy_to_host(gpu_ctx, maps[i])), floats(expected_maps[i])),
              kMaxRelativeRms)
        << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Architectures, VisionCuda,
                         ::testing::Values(Case{"inception_next_atto", 3, 96, 72},
                                           Case{"inception_next_tiny", 2, 224, 224},
                                           Case{"inception_next_small", 1, 64, 96},
                                           Case{"inception_next_base", 2, 64, 64},
                                           Case{"convnext_tiny", 2, 224, 160}),
                         [](const auto& test) { return std::string(test.param.architecture); });

TEST(VisionGraph, ReplaysToTheSameBits) {
  auto gpu = Runtime::cuda(0, 2);
  if (!gpu.ok()) GTEST_SKIP() << "no GPU";
  Context& ctx = (*gpu)->context();
  const auto model =
      load_vision_model(ctx, config_of("inception_next_atto"), testing::DrawnVision()).value();
  const Tensor images = copy_to_device(ctx, testing::draw("images", {4, 64, 64, 3}, 0.0, 1.0));
  const ArenaScope scope(ctx.arena);
  const std::vector<float> direct = floats(copy_to_host(ctx, model->forward(ctx, images)));
  Tensor logits;
  const CudaGraph graph =
      CudaGraph::capture(ctx.cuda->stream, [&] { logits = model->forward(ctx, images); });
  graph.launch(ctx.cuda->stream);
  EXPECT_EQ(floats(copy_to_host(ctx, logits)), direct);
}

}  // namespace
}  // namespace comet::models
