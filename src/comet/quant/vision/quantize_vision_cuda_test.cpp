// Quantized classifiers on a GPU against the CPU: logits of the same checkpoint, and checkpoints
// that were calibrated on the GPU.
#include <gtest/gtest.h>

#include <cstring>

#include "comet/models/vision/vision_model.h"
#include "comet/quant/vision/vision_case.h"

namespace comet::quant {
namespace {

using models::VisionConfig;
using models::VisionFamily;

/// Of BF16 between the products, against the spread of the logits; and how much more than the
/// images' rounding to BF16 moves the CPU's logits: a code that falls to a neighbour moves by a
/// whole step, of E4M3 up to an eighth of the value.
constexpr double kRounding = 0.03;
constexpr double kSensitivity = 1.5;

struct Case {
  const char* format;
  const char* architecture;

  // NOLINTNEXTLINE(readability-identifier-naming): GoogleTest's
  friend void PrintTo(const Case& c, std::ostream* out) {
    *out << c.format << " " << c.architecture;
  }
};

VisionConfig config_of(const std::string& architecture) {
  if (architecture == "inception_next") return small_config(VisionFamily::kInceptionNext);
  if (architecture == "convnext") return small_config(VisionFamily::kConvNext);
  const models::ShapeOf shape_of = [](const std::string& name) -> std::optional<Shape> {
    if (name == "head.fc2.weight" || name == "head.fc.weight") return Shape{1000, 1};
    return std::nullopt;
  };
  return models::vision_config(architecture, shape_of, "test").value();
}

Tensor logits_of(Context& ctx, const std::string& folder, const Tensor& images) {
  const auto model = models::load_vision_model(ctx, io::Checkpoint::open(folder).value()).value();
  const ArenaScope scope(ctx.arena);
  const Tensor host = copy_to_host(ctx, model->forward(ctx, copy_to_device(ctx, images)));
  Tensor kept = allocate_tensor(host_allocator(), host.dtype(), host.shape());
  std::memcpy(kept.raw(), host.raw(), static_cast<size_t>(host.num_bytes()));
  return kept;
}

Tensor in_bf16(const Tensor& images) {
  Tensor rounded = allocate_tensor(host_allocator(), DType::kF32, images.shape());
  for (int64_t i = 0; i < images.num_elements(); ++i) {
    rounded.data<float>()[i] = to_float(to_bfloat16(images.data<float>()[i]));
  }
  return rounded;
}

class QuantizedVisionCuda : public ::testing::TestWithParam<Case> {};

TEST_P(QuantizedVisionCuda, LogitsAreTheCpusWithinBf16) {
  auto gpu = Runtime::cuda(0, 2);
  if (!gpu.ok()) GTEST_SKIP() << "no GPU";
  const auto cpu = Runtime::cpu(detect_cpu_isa(), 8);
  const Case& c = GetParam();
  const testing::TemporaryFolder folder;
  write_original(folder, config_of(c.architecture));
  const auto original = io::Checkpoint::open(folder.path()).value();
  const Tensor images = drawn_images("others", 3);
  for (Context* maker : {&cpu->context(), &(*gpu)->context()}) {
    SCOPED_TRACE(maker->cuda == nullptr ? "calibrated on the CPU" : "calibrated on the GPU");
    const testing::TemporaryFolder out;
    VisionQuantizeRequest request = request_of(c.format, out.path() + "/quantized");
    if (config_of(c.architecture).num_classes == 1000) request.options.weights = "rtn";
    const auto report = quantize_vision(*maker, original, request);
    ASSERT_TRUE(report.ok()) << report.error().message;
    const Tensor expected = logits_of(cpu->context(), request.out_dir, images);
    const double error =
        relative_rms(logits_of((*gpu)->context(), request.out_dir, images), expected);
    const double sensitivity =
        relative_rms(logits_of(cpu->context(), request.out_dir, in_bf16(images)), expected);
    RecordProperty(maker->cuda == nullptr ? "by_cpu" : "by_gpu", fmt::format("{:.2e}", error));
    EXPECT_LT(error, kRounding + kSensitivity * sensitivity) << "sensitivity " << sensitivity;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Formats, QuantizedVisionCuda,
    ::testing::Values(Case{"w8a8-int", "inception_next"}, Case{"w8a8-int", "convnext"},
                      Case{"w8a8-int", "inception_next_atto"},
                      Case{"w8a8-int", "inception_next_tiny"}, Case{"w8a8-fp8", "inception_next"},
                      Case{"w8a8-fp8", "convnext"}, Case{"w8a8-fp8", "inception_next_tiny"},
                      Case{"w4a16", "inception_next"}, Case{"w4a16", "convnext"},
                      Case{"w4a16", "inception_next_atto"}, Case{"w4ax", "inception_next"},
                      Case{"w4ax", "convnext"}, Case{"w4ax", "inception_next_atto"}));

}  // namespace
}  // namespace comet::quant
