// Image classifiers with random weights, and the operators over images of a GPU, timed. Callers:
// `comet bench vision` and `comet bench ops`. time_forward runs on every device; time_image_ops
// without the CUDA backend is a broken promise.
#pragma once

#include <string>
#include <vector>

#include "bench/op_bench.h"
#include "comet/models/vision/training/trainable_vision.h"
#include "comet/models/vision/vision_model.h"

namespace comet::bench {

/// What random weights are drawn for.
struct DrawnVision {
  std::string architecture;
  int64_t num_classes = 1000;
  std::string format = "dense";  // of the products: or "w8a8-int", "w8a8-fp8"
};

/// A model whose weights are drawn, not read.
Result<std::unique_ptr<models::VisionModel>> random_vision_model(Context& ctx,
                                                                 const DrawnVision& drawn);

/// Multiply-accumulates of products and mixers for one image of size × size.
double forward_macs(const models::VisionConfig& config, int64_t size);

struct ForwardTiming {
  double us = 0;       // of one batch
  double best_us = 0;  // on the CPU: of the quickest
  GpuState state;
};

/// Inference of `batch` images of size × size, of BF16 on a GPU (a replayed CUDA graph; the images
/// lie in its memory), FP32 on the CPU.
ForwardTiming time_forward(Context& ctx, const models::VisionModel& model, int64_t batch,
                           int64_t size);

/// A training step on a GPU (a broken promise elsewhere): forward, soft cross entropy, backward,
/// norm of the gradients, AdamW with FP32 master weights; a replayed CUDA graph, images in its
/// memory.
ForwardTiming time_training(Context& ctx, const models::TrainableVisionConfig& config,
                            int64_t batch, int64_t size);

/// Mixer, depthwise 7×7 and their gradients, GELU and layer norm on the shapes of the four stages
/// of an architecture's images; rows of OpTiming are pixels.
std::vector<OpTiming> time_image_ops(Context& ctx, const models::VisionConfig& config,
                                     int64_t batch, int64_t size);

}  // namespace comet::bench
