#include "bench/vision_bench.h"

#include <algorithm>

#include "bench/cpu_forward.h"
#include "comet/base/rng.h"
#include "comet/device/cuda/cublaslt.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/ops/adamw/adamw.h"
#include "comet/ops/cross_entropy/cross_entropy.h"
#include "comet/ops/cuda/image_launches.h"
#include "comet/ops/product/cuda/rows_gemm.h"

namespace comet::bench {
namespace {

using ops_cuda::FloatRows;
using ops_cuda::FloatType;
using ops_cuda::ImageSizes;
using ops_cuda::KernelGrads;
using ops_cuda::KernelWeights;

/// BF16 of normal values, a period of 4,096 of them repeated.
Tensor random_bf16(Context& ctx, int64_t count) {
  std::vector<uint16_t> values(static_cast<size_t>(count));
  Rng rng(1);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = i < 4096 ? to_bfloat16(rng.next_normal()).bits : values[i - 4096];
  }
  Tensor host(std::make_shared<Storage>(host_allocator(), values.size() * 2), 0, DType::kBF16,
              {count});
  std::copy(values.begin(), values.end(), reinterpret_cast<uint16_t*>(host.raw()));
  return copy_to_device(ctx, host);
}

/// FP32 zeros: weights and gradients, whose values cost no time.
Tensor zeros(Context& ctx, int64_t count) {
  Tensor tensor = allocate_tensor(ctx.memory, DType::kF32, {count});
  COMET_CUDA(cudaMemsetAsync(tensor.raw(), 0, static_cast<size_t>(count) * 4, ctx.cuda->stream));
  return tensor;
}

/// The operators on one stage's images.
class StageTimer {
 public:
  StageTimer(Context& ctx, const ImageSizes& sizes, std::vector<OpTiming>& timings)
      : ctx_(ctx),
        stream_(ctx.cuda->stream),
        sizes_(sizes),
        rows_(int64_t{sizes.num_images} * sizes.height * sizes.width),
        count_(rows_ * sizes.channels),
        bytes_(2.0 * static_cast<double>(count_)),
        num_(num_rotating_buffers(2 * count_)),
        x_(random_bf16(ctx, count_ * num_)),
        dy_(random_bf16(ctx, count_ * num_)),
        out_(random_bf16(ctx, count_ * num_)),
        weights_(zeros(ctx, int64_t{64} * sizes.channels)),
        grads_(zeros(ctx, int64_t{64} * sizes.channels)),
        timings_(timings) {}

  void time_mixer(int32_t branch, int32_t band) {
    ops_cuda::MixerArgs args;
    args.sizes = sizes_;
    args.branch = branch;
    args.band = band;
    args.square = args.band_w = args.band_h = weights();
    time("inception_mixer", 2, [&](int64_t i) {
      args.x = at(x_, i);
      args.out = at(out_, i);
      ops_cuda::launch_inception_mixer(args, stream_);
    });
    const Tensor workspace =
        zeros(ctx_, static_cast<int64_t>(ops_cuda::mixer_backward_workspace(args)));
    ops_cuda::MixerBackwardArgs backward;
    backward.square = backward.band_w = backward.band_h = grads();
    backward.workspace = workspace.data<float>();
    backward.arrivals = ctx_.cuda->arrivals;
    time("inception_mixer_backward", 3.375, [&](int64_t i) {
      args.x = at(x_, i);
      backward.forward = args;
      backward.dy = at(dy_, i);
      backward.dx = at(out_, i);
      ops_cuda::launch_inception_mixer_backward(backward, stream_);
    });
  }

  void time_depthwise() {
    ops_cuda::DepthwiseArgs args;
    args.sizes = sizes_;
    args.kernel_h = args.kernel_w = 7;
    args.weights = weights();
    time("depthwise_7x7", 2, [&](int64_t i) {
      args.x = at(x_, i);
      args.out = at(out_, i);
      ops_cuda::launch_depthwise_conv(args, stream_);
    });
    const Tensor workspace =
        zeros(ctx_, static_cast<int64_t>(ops_cuda::depthwise_backward_workspace(args)));
    ops_cuda::DepthwiseBackwardArgs backward;
    backward.grads = grads();
    backward.workspace = workspace.data<float>();
    time("depthwise_7x7_backward", 4, [&](int64_t i) {
      args.x = at(x_, i);
      backward.forward = args;
      backward.dy = at(dy_, i);
      backward.dx = at(out_, i);
      ops_cuda::launch_depthwise_conv_backward(backward, stream_);
    });
  }

  void time_rows() {
    const int64_t n = sizes_.channels;
    time("gelu", 2, [&](int64_t i) {
      ops_cuda::launch_gelu(matrix(out_, i), matrix(x_, i), rows_, n, stream_);
    });
    time("layer_norm", 2, [&](int64_t i) {
      ops_cuda::launch_layer_norm({matrix(out_, i), matrix(x_, i), weights_.data<float>(),
                                   weights_.data<float>(), 1e-6F, rows_, n},
                                  stream_);
    });
  }

  /// fc1 with GELU: by rows_gemm where it takes the shape, and by cuBLASLt and a second pass.
  void time_fc1(int64_t hidden) {
    const int64_t n = sizes_.channels;
    const Tensor w = random_bf16(ctx_, hidden * n);
    const Tensor bias = zeros(ctx_, hidden);
    const int64_t num = std::min<int64_t>(num_, 2);
    const Tensor h = allocate_tensor(ctx_.memory, DType::kBF16, {num, rows_ * hidden});
    const auto out = [&](int64_t i) { return h.raw() + i % num * rows_ * hidden * 2; };
    const double passes = 1.0 + static_cast<double>(hidden) / static_cast<double>(n);
    ops_cuda::RowsGemmArgs args;
    args.w = w.raw();
    args.bias = bias.data<float>();
    args.x_stride = n;
    args.out_stride = hidden;
    args.rows = rows_;
    args.n = static_cast<int32_t>(hidden);
    args.k = static_cast<int32_t>(n);
    if (ops_cuda::rows_gemm_supports(args, ctx_.cuda->sm)) {
      time("fc1_gelu", passes, [&](int64_t i) {
        args.x = at(x_, i);
        args.out = out(i);
        ops_cuda::launch_rows_gemm(args, ctx_.cuda->num_sms, stream_);
      });
    }
    CublasLt& lt = *cublaslt_of(*ctx_.cuda).value();
    MatmulDesc desc;
    desc.rows = rows_;
    desc.n = hidden;
    desc.k = n;
    desc.end = MatmulEnd::kBias;
    const auto multiply = [&](int64_t i) {
      run_matmul(lt, desc, {.x = at(x_, i), .w = w.raw(), .out = out(i), .bias = bias.raw()},
                 stream_);
    };
    time("fc1_cublaslt", passes, multiply);
    time("fc1_cublaslt_then_gelu", passes, [&](int64_t i) {
      multiply(i);
      const FloatRows rows{out(i), hidden, FloatType::kBF16};
      ops_cuda::launch_gelu(rows, rows, rows_, hidden, stream_);
    });
    desc.end = MatmulEnd::kBiasGeluTanh;
    time("fc1_cublaslt_gelu_tanh", passes, multiply);
  }

 private:
  [[nodiscard]] std::byte* at(const Tensor& tensor, int64_t i) const {
    return tensor.raw() + i % num_ * count_ * 2;
  }
  [[nodiscard]] FloatRows matrix(const Tensor& tensor, int64_t i) const {
    return {at(tensor, i), sizes_.channels, FloatType::kBF16};
  }
  [[nodiscard]] KernelWeights weights() const {
    return {weights_.data<float>(), weights_.data<float>()};
  }
  [[nodiscard]] KernelGrads grads() const { return {grads_.data<float>(), grads_.data<float>()}; }

  /// `passes`: how often an operator goes over an activation at least.
  template <typename Call>
  void time(const std::string& op, double passes, const Call& call) {
    const GpuTiming timing = time_on_gpu(ctx_, call, {.num_buffers = num_});
    const std::string shape =
        fmt::format("{} {}x{}x{}", op, sizes_.height, sizes_.width, sizes_.channels);
    timings_.push_back({shape, rows_, timing.us, passes * bytes_, timing.state});
  }

  Context& ctx_;
  cudaStream_t stream_;
  ImageSizes sizes_;
  int64_t rows_;
  int64_t count_;
  double bytes_;
  int64_t num_;
  Tensor x_;
  Tensor dy_;
  Tensor out_;
  Tensor weights_;
  Tensor grads_;
  std::vector<OpTiming>& timings_;
};

/// A network with what an optimizer keeps, on random images.
class TrainingStep {
 public:
  TrainingStep(Context& ctx, const models::TrainableVisionConfig& config, int64_t batch,
               int64_t size)
      : ctx_(ctx),
        model_(ctx, config),
        images_(random_bf16(ctx, batch * size * size * 3).reshape({batch, size, size, 3})),
        targets_(
            allocate_tensor(host_allocator(), DType::kF32, {batch, config.network.num_classes})),
        first_(zeros(ctx, model_.parameters().values().num_elements())),
        second_(zeros(ctx, model_.parameters().values().num_elements())),
        losses_(zeros(ctx, batch)),
        norm_(zeros(ctx, 1)) {
    model_.initialize(ctx, 1);
    const auto smooth = 0.1F / static_cast<float>(config.network.num_classes);
    std::fill_n(targets_.data<float>(), targets_.num_elements(), smooth);
    for (int64_t i = 0; i < batch; ++i) {
      targets_.data<float>()[i * config.network.num_classes + i % config.network.num_classes] +=
          0.9F;
    }
    targets_ = copy_to_device(ctx, targets_);
    schedule_ = copy_to_device(ctx, std::vector<float>{1e-4F, 0.1F, 0.001F}, {3});
  }

  void run() {
    nn::ParameterSet& set = model_.parameters();
    const ArenaScope scope(ctx_.arena);
    COMET_CUDA(cudaMemsetAsync(set.grads().raw(), 0, static_cast<size_t>(set.grads().num_bytes()),
                               ctx_.cuda->stream));
    const Tensor logits = model_.forward(ctx_, images_, {.training = true, .keep = {}});
    const auto scale = 1.0F / static_cast<float>(images_.size(0));
    cross_entropy(ctx_, losses_.view<float, 1>(), logits, logits, targets_.view<const float, 2>(),
                  scale);
    model_.backward(ctx_, logits);
    squared_norm(ctx_, norm_.view<float, 1>(), set.grads().view<const float, 1>());
    const int64_t count = set.values().num_elements();
    optimize(0, set.num_decayed(), 0.05F);
    optimize(set.num_decayed(), count, 0.0F);
  }

 private:
  void optimize(int64_t begin, int64_t end, float weight_decay) {
    nn::ParameterSet& set = model_.parameters();
    AdamWParameters parameters;
    parameters.value = set.values().slice(0, begin, end).view<float, 1>();
    parameters.grad = set.grads().slice(0, begin, end).view<const float, 1>();
    parameters.first = first_.slice(0, begin, end).view<float, 1>();
    parameters.second = second_.slice(0, begin, end).view<float, 1>();
    parameters.shadow = set.shadow().slice(0, begin, end).reshape({1, end - begin});
    AdamWSettings settings;
    settings.weight_decay = weight_decay;
    settings.schedule = schedule_.view<const float, 1>();
    settings.squared_norm = norm_.view<const float, 1>();
    adamw(ctx_, parameters, settings);
  }

  Context& ctx_;
  models::TrainableVision model_;
  Tensor images_;
  Tensor targets_;
  Tensor first_;
  Tensor second_;
  Tensor losses_;
  Tensor norm_;
  Tensor schedule_;
};

}  // namespace

ForwardTiming time_training(Context& ctx, const models::TrainableVisionConfig& config,
                            int64_t batch, int64_t size) {
  COMET_CHECK(ctx.cuda != nullptr);
  TrainingStep step(ctx, config, batch, size);
  const GpuTiming timing =
      time_on_gpu(ctx, [&](int64_t) { step.run(); }, {.min_replays = 20, .min_total_us = 500e3});
  return {timing.us, timing.us, timing.state};
}

ForwardTiming time_forward(Context& ctx, const models::VisionModel& model, int64_t batch,
                           int64_t size) {
  if (ctx.cuda == nullptr) return time_cpu_forward(ctx, model, batch, size);
  const Tensor images = random_bf16(ctx, batch * size * size * 3).reshape({batch, size, size, 3});
  const GpuTiming timing = time_on_gpu(ctx,
                                       [&](int64_t) {
                                         const ArenaScope scope(ctx.arena);
                                         model.forward(ctx, images);
                                       },
                                       {.min_replays = 20, .min_total_us = 500e3});
  return {timing.us, timing.us, timing.state};
}

std::vector<OpTiming> time_image_ops(Context& ctx, const models::VisionConfig& config,
                                     int64_t batch, int64_t size) {
  COMET_CHECK(ctx.cuda != nullptr);
  std::vector<OpTiming> timings;
  int64_t side = size / 4;
  for (const models::VisionStage& stage : config.stages) {
    const ImageSizes sizes{static_cast<int32_t>(batch), static_cast<int32_t>(side),
                           static_cast<int32_t>(side), static_cast<int32_t>(stage.channels)};
    StageTimer timer(ctx, sizes, timings);
    if (stage.branch > 0) {
      timer.time_mixer(static_cast<int32_t>(stage.branch), static_cast<int32_t>(config.band));
    }
    timer.time_depthwise();
    timer.time_rows();
    timer.time_fc1(stage.hidden);
    side /= 2;
  }
  return timings;
}

}  // namespace comet::bench
