// One training step against timm and PyTorch's autograd in FP64 (goldens of
// tools/oracle_vision_train.py): logits, loss, every gradient, running moments, weights after
// AdamW.
#include "comet/models/vision/training/trainable_vision.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "comet/io/safetensors.h"
#include "comet/models/load.h"
#include "comet/models/vision/vision_model.h"
#include "comet/ops/adamw/adamw.h"
#include "comet/ops/cross_entropy/cross_entropy.h"
#include "support/drawn_vision.h"

namespace comet::models {
namespace {

/// What a golden says about one tensor.
enum Column { kNorm, kProbe0, kProbe1, kLargest, kFirst, kTorchError, kNumColumns };

struct Golden {
  io::SafetensorsFile file;
  int64_t height, width, num_images, num_classes;
  float lr, weight_decay, eps;

  explicit Golden(const std::string& name)
      : file(io::SafetensorsFile::open(COMET_SOURCE_DIR "/tests/data/vision/train_" + name +
                                       ".safetensors")
                 .value()) {
    const Tensor sizes = file.tensor("image_size").value();
    height = sizes.data<int32_t>()[0];
    width = sizes.data<int32_t>()[1];
    num_images = sizes.data<int32_t>()[2];
    num_classes = sizes.data<int32_t>()[3];
    lr = loss()[2];
    weight_decay = loss()[3];
    eps = loss()[4];
  }
  [[nodiscard]] Tensor tensor(const std::string& name) const { return file.tensor(name).value(); }
  [[nodiscard]] const float* loss() const { return tensor("loss").data<float>(); }
};

TrainableVisionConfig config_of(const std::string& name, int64_t num_classes) {
  if (name != "small_network") return trainable_config(name, num_classes).value();
  TrainableVisionConfig config;
  config.network.architecture = "inception_next";
  const std::array<int64_t, 4> depths{1, 1, 2, 1};
  const std::array<int64_t, 4> channels{8, 12, 16, 24};
  for (size_t i = 0; i < 4; ++i) {
    config.network.stages[i] = {depths[i], channels[i], (i == 3 ? 3 : 4) * channels[i],
                                channels[i] / 4};
  }
  config.network.band = 5;
  config.network.head_hidden = 72;
  config.network.num_classes = num_classes;
  return config;
}

/// The branches that tools/oracle_vision_train.py drops.
Tensor drawn_keep(const TrainableVisionConfig& config, int64_t num_images) {
  int64_t num_blocks = 0;
  for (const VisionStage& stage : config.network.stages) num_blocks += stage.depth;
  Tensor keep = allocate_tensor(host_allocator(), DType::kF32, {num_blocks, num_images});
  auto* to = keep.data<float>();
  for (size_t i = 0; i < config.network.stages.size(); ++i) {
    for (int64_t j = 0; j < config.network.stages[i].depth; ++j) {
      const Tensor u = testing::draw(fmt::format("keep.{}.{}", i, j), {num_images}, 0.0, 1.0);
      for (int64_t n = 0; n < num_images; ++n) {
        *to++ = double{u.data<float>()[n]} > -0.4 ? 1.25F : 0.0F;
      }
    }
  }
  return keep;
}

Tensor drawn_targets(int64_t num_images, int64_t num_classes) {
  Tensor targets = testing::draw("targets", {num_images, num_classes}, 1.0, 1.0);
  for (int64_t i = 0; i < num_images; ++i) {
    float* row = targets.data<float>() + i * num_classes;
    double sum = 0;
    for (int64_t c = 0; c < num_classes; ++c) sum += double{row[c]};
    for (int64_t c = 0; c < num_classes; ++c) row[c] = static_cast<float>(double{row[c]} / sum);
  }
  return targets;
}

std::array<double, kNumColumns> summary(const std::string& name, const Tensor& x) {
  std::array<double, kNumColumns> sums{};
  const Rng probe0(testing::fnv1a("probe.0" + name));
  const Rng probe1(testing::fnv1a("probe.1" + name));
  const auto* values = x.data<float>();
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    const double value = values[i];
    const auto at = static_cast<uint64_t>(i);
    sums[kNorm] += value * value;
    sums[kProbe0] += value * (2.0 * double{probe0.uniform(at)} - 1.0);
    sums[kProbe1] += value * (2.0 * double{probe1.uniform(at)} - 1.0);
    sums[kLargest] = std::max(sums[kLargest], std::abs(value));
  }
  sums[kNorm] = std::sqrt(sums[kNorm]);
  sums[kFirst] = values[0];
  return sums;
}

struct Errors {
  double worst = 0;  // of a tensor, of its norm
  std::string worst_name;
  double worst_torch = 0;    // of PyTorch in FP32
  double worst_of_zero = 0;  // norm of what is zero but for rounding, of the largest norm
};

/// `tensors` sorted by name, as the golden's rows are.
Errors compare(const nn::NamedTensors& tensors, const Tensor& golden) {
  COMET_CHECK(golden.size(0) == static_cast<int64_t>(tensors.size()), "{} rows, {} tensors",
              golden.size(0), tensors.size());
  double largest = 0;
  for (int64_t i = 0; i < golden.size(0); ++i) {
    largest = std::max(largest, double{golden.data<float>()[i * kNumColumns]});
  }
  Errors errors;
  const float* row = golden.data<float>();
  for (const auto& [name, tensor] : tensors) {
    const std::array<double, kNumColumns> ours = summary(name, tensor);
    const double norm = row[kNorm];
    if (norm < 1e-9 * largest) {
      errors.worst_of_zero = std::max(errors.worst_of_zero, ours[kNorm] / largest);
    } else {
      double error = 0;
      for (const Column column : {kNorm, kProbe0, kProbe1, kLargest, kFirst}) {
        const double difference = std::abs(ours[column] - double{row[column]}) / norm;
        error = std::isfinite(difference) ? std::max(error, difference) : INFINITY;
      }
      errors.worst_torch = std::max(errors.worst_torch, double{row[kTorchError]});
      if (error > errors.worst) errors = {error, name, errors.worst_torch, errors.worst_of_zero};
    }
    row += kNumColumns;
  }
  return errors;
}

nn::NamedTensors named(const std::vector<nn::Parameter>& parameters, const nn::NamedTensors& all) {
  nn::NamedTensors found;
  for (const auto& entry : all) {
    const auto is = [&](const nn::Parameter& p) { return p.name == entry.first; };
    if (std::any_of(parameters.begin(), parameters.end(), is)) found.push_back(entry);
  }
  return found;
}

/// A network in the state that the golden starts from.
struct Step {
  Context& ctx;
  Golden golden;
  TrainableVision model;
  Tensor images, targets, keep;
  std::vector<float> losses;

  Step(Context& context, const std::string& name)
      : ctx(context),
        golden(name),
        model(ctx, config_of(name, golden.num_classes)),
        images(testing::draw("images", {golden.num_images, golden.height, golden.width, 3}, 0, 1)),
        targets(drawn_targets(golden.num_images, golden.num_classes)),
        keep(drawn_keep(model.config(), golden.num_images)),
        losses(static_cast<size_t>(golden.num_images)) {
    COMET_CHECK(model.load(ctx, testing::DrawnVision()).ok());
  }

  /// Logits; gradients are added when `backward` is set.
  Tensor run(bool backward) {
    Tensor logits = model.forward(ctx, images, {true, keep});
    const Tensor dlogits = nn::activations_like(ctx, logits);
    cross_entropy(ctx, {losses.data(), {golden.num_images}}, dlogits, logits,
                  targets.view<const float, 2>(), 1.0F / static_cast<float>(golden.num_images));
    if (backward) model.backward(ctx, dlogits);
    return logits;
  }
  [[nodiscard]] double loss() const {
    double sum = 0;
    for (const float loss : losses) sum += double{loss};
    return sum / static_cast<double>(losses.size());
  }
  void optimize() {
    nn::ParameterSet& set = model.parameters();
    const int64_t size = set.values().num_elements();
    std::vector<float> first(static_cast<size_t>(size));
    std::vector<float> second(static_cast<size_t>(size));
    std::vector<float> norm(1);
    squared_norm(ctx, {norm.data(), {1}}, set.grads().view<const float, 1>());
    const std::vector<float> schedule{golden.lr, 0.1F, 0.001F};
    for (const bool decayed : {true, false}) {
      const int64_t begin = decayed ? 0 : set.num_decayed();
      const int64_t end = decayed ? set.num_decayed() : size;
      AdamWSettings settings;
      settings.eps = golden.eps;
      settings.weight_decay = decayed ? golden.weight_decay : 0.0F;
      settings.schedule = {schedule.data(), {3}};
      settings.squared_norm = {norm.data(), {1}};
      adamw(ctx,
            {set.values().slice(0, begin, end).view<float, 1>(),
             set.grads().slice(0, begin, end).view<const float, 1>(),
             {first.data() + begin, {end - begin}},
             {second.data() + begin, {end - begin}},
             {}},
            settings);
    }
  }
};

double relative_error(const Tensor& a, const Tensor& b) {
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

class TimmTraining : public ::testing::TestWithParam<const char*> {};

TEST_P(TimmTraining, AStepIsEqual) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  Step step(ctx, GetParam());
  nn::ParameterSet& set = step.model.parameters();
  const auto before = set.stored_tensors(ctx, set.values());
  {
    const ArenaScope scope(ctx.arena);
    const Tensor logits = step.run(true);
    const double error = relative_error(logits, step.golden.tensor("logits"));
    std::printf("%-22s logits %.1e", GetParam(), error);
    EXPECT_LT(error, 1e-4);
    EXPECT_NEAR(step.loss(), step.golden.loss()[0], 1e-5);
  }
  const auto grads = named(set.parameters(), set.stored_tensors(ctx, set.grads()));
  const Errors of_grads = compare(grads, step.golden.tensor("grads"));
  std::printf(", gradients %.1e (%s; PyTorch FP32 %.1e; of zeros %.1e)", of_grads.worst,
              of_grads.worst_name.c_str(), of_grads.worst_torch, of_grads.worst_of_zero);
  EXPECT_LT(of_grads.worst, 1e-4) << of_grads.worst_name;
  EXPECT_LT(of_grads.worst_of_zero, 1e-6);

  const auto after_forward = set.stored_tensors(ctx, set.values());
  if (!set.buffers().empty()) {
    const Errors of_buffers =
        compare(named(set.buffers(), after_forward), step.golden.tensor("buffers"));
    std::printf(", running moments %.1e", of_buffers.worst);
    EXPECT_LT(of_buffers.worst, 1e-5) << of_buffers.worst_name;
  }

  step.optimize();
  auto change = named(set.parameters(), set.stored_tensors(ctx, set.values()));
  const auto start = named(set.parameters(), before);
  for (size_t i = 0; i < change.size(); ++i) {
    for (int64_t j = 0; j < change[i].second.num_elements(); ++j) {
      change[i].second.data<float>()[j] -= start[i].second.data<float>()[j];
    }
  }
  const Errors of_weights = compare(change, step.golden.tensor("weights"));
  std::printf(", change of weights %.1e (%s; PyTorch FP32 %.1e)", of_weights.worst,
              of_weights.worst_name.c_str(), of_weights.worst_torch);
  EXPECT_LT(of_weights.worst, 2e-3) << of_weights.worst_name;  // lr · g / (|g| + eps) near 0
  const ArenaScope scope(ctx.arena);
  step.run(false);
  std::printf(", loss after it %.2e\n", step.loss() - double{step.golden.loss()[1]});
  EXPECT_NEAR(step.loss(), step.golden.loss()[1], 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Networks, TimmTraining,
                         ::testing::Values("small_network", "inception_next_atto",
                                           "inception_next_tiny", "inception_next_small",
                                           "inception_next_base", "convnext_tiny"),
                         [](const auto& network) { return std::string(network.param); });

TEST(TrainableVision, EveryElementOfTheSmallNetworksGradientsIsEqual) {
  for (const CpuIsa isa : available_cpu_isas()) {
    const auto runtime = Runtime::cpu(isa, 1);
    Context& ctx = runtime->context();
    Step step(ctx, "small_network");
    const ArenaScope scope(ctx.arena);
    step.run(true);
    nn::ParameterSet& set = step.model.parameters();
    for (const auto& [name, grad] : named(set.parameters(), set.stored_tensors(ctx, set.grads()))) {
      const Tensor golden = step.golden.tensor("grad." + name);
      ASSERT_EQ(grad.shape(), golden.shape()) << name;
      for (int64_t i = 0; i < grad.num_elements(); ++i) {
        ASSERT_NEAR(grad.data<float>()[i], golden.data<float>()[i], 2e-6) << name << ' ' << i;
      }
    }
  }
}

TEST(TrainableVision, ThreadsChangeNoBitAndGradientsAreAdded) {
  std::vector<std::vector<float>> results;
  for (const int num_threads : {1, 2}) {
    const auto runtime = Runtime::cpu(detect_cpu_isa(), num_threads);
    Context& ctx = runtime->context();
    Step step(ctx, "inception_next_atto");
    const ArenaScope scope(ctx.arena);
    step.run(true);
    const Tensor grads = step.model.parameters().grads();
    results.emplace_back(grads.data<float>(), grads.data<float>() + grads.num_elements());
    if (num_threads == 1) continue;
    step.run(true);
    for (int64_t i = 0; i < grads.num_elements(); ++i) {
      const double once = results[0][static_cast<size_t>(i)];
      ASSERT_NEAR(grads.data<float>()[i], 2 * once, 1e-4 * std::abs(once) + 1e-5);
    }
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(TrainableVision, EvaluationIsWhatInferenceFolds) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  for (const char* name : {"small_network", "convnext_tiny"}) {
    Step step(ctx, name);
    MemorySource source;
    const nn::ParameterSet& set = step.model.parameters();
    for (const auto& [key, tensor] : set.stored_tensors(ctx, set.values())) {
      source.put(key, tensor);
    }
    const auto folded = load_vision_model(ctx, step.model.config().network, source);
    ASSERT_TRUE(folded.ok()) << folded.error().message;
    const ArenaScope scope(ctx.arena);
    const Tensor expected = (*folded)->forward(ctx, step.images);
    EXPECT_LT(relative_error(step.model.forward(ctx, step.images, {}), expected), 1e-5) << name;
  }
}

TEST(TrainableVision, BeginsAsTimmDoes) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 1);
  Context& ctx = runtime->context();
  TrainableVision model(ctx, config_of("inception_next_atto", 10));
  model.initialize(ctx, 1);
  const nn::ParameterSet& set = model.parameters();
  EXPECT_EQ(set.num_trained(), 4156520 - 990 * 961);  // timm's count for 1,000 classes
  for (const auto& [name, tensor] : set.stored_tensors(ctx, set.values())) {
    const std::array<double, kNumColumns> of = summary(name, tensor);
    const double deviation = of[kNorm] / std::sqrt(static_cast<double>(tensor.num_elements()));
    if (tensor.shape().rank() > 1) {
      EXPECT_NEAR(deviation, 0.02, tensor.num_elements() > 1000 ? 0.003 : 0.01) << name;
    } else if (name.ends_with("gamma")) {
      EXPECT_FLOAT_EQ(of[kFirst], 1e-6F) << name;
    } else if (name.ends_with("weight") || name.ends_with("running_var")) {
      EXPECT_EQ(deviation, 1.0) << name;
    } else {
      EXPECT_EQ(deviation, 0.0) << name;
    }
  }
}

TEST(TrainableVision, ADepthwiseMixerTakesTheInceptionMixersPlace) {
  const auto runtime = Runtime::cpu(detect_cpu_isa(), 2);
  Context& ctx = runtime->context();
  TrainableVisionConfig config = config_of("small_network", 4);
  config.depthwise_kernel = 7;
  TrainableVision model(ctx, config);
  model.initialize(ctx, 3);
  const auto tensors = model.parameters().stored_tensors(ctx, model.parameters().values());
  const auto is_mixer = [](const auto& entry) {
    return entry.first == "stages.3.blocks.0.token_mixer.weight";
  };
  const auto found = std::find_if(tensors.begin(), tensors.end(), is_mixer);
  ASSERT_NE(found, tensors.end());
  EXPECT_EQ(found->second.shape(), (Shape{24, 1, 7, 7}));
  const ArenaScope scope(ctx.arena);
  const Tensor images = testing::draw("images", {2, 64, 64, 3}, 0.0, 1.0);
  const Tensor logits = model.forward(ctx, images, {true, {}});
  model.backward(ctx, logits);
  EXPECT_GT(summary("", model.parameters().grads())[kNorm], 0.0);
}

}  // namespace
}  // namespace comet::models
