#include "comet/models/vision/vision_model.h"

#include "comet/base/json.h"
#include "comet/models/load.h"
#include "comet/models/vision/convnext.h"
#include "comet/models/vision/inception_next.h"
#include "comet/models/vision/weights/vision_tensors.h"
#include "comet/ops/average_pool/average_pool.h"
#include "comet/ops/op_table.h"

namespace comet::models {
namespace {

constexpr int64_t kColours = 3;

void check_image_batch(const Tensor& images) {
  COMET_CHECK(images.shape().rank() == 4 && images.size(3) == kColours &&
                  images.size(1) >= kMinImageSize && images.size(2) >= kMinImageSize,
              "images {}; expected [n, height, width, {}] of at least {} x {}",
              images.shape().to_string(), kColours, kMinImageSize, kMinImageSize);
}

}  // namespace

StageMaps VisionModel::features(Context& ctx, const Tensor& images) const {
  check_image_batch(images);
  return run_stages(ctx, images);
}

Tensor VisionModel::forward(Context& ctx, const Tensor& images) const {
  check_image_batch(images);
  Tensor logits = ctx.arena.alloc(DType::kF32, {images.size(0), config_.num_classes});
  const ArenaScope scope(ctx.arena);
  const Tensor last = run_stages(ctx, images).back();
  const Tensor pooled = ctx.arena.alloc(ctx.ops.product_dtype, {last.size(0), last.size(3)});
  average_pool(ctx, pooled, last);
  run_head(ctx, pooled, logits);
  return logits;
}

Result<std::unique_ptr<VisionModel>> load_vision_model(Context& ctx, const VisionConfig& config,
                                                       const formats::TensorSource& tensors,
                                                       const formats::ModelScheme* scheme) {
  const VisionWeights weights{tensors, scheme, ctx.caps};
  auto model = config.family == VisionFamily::kInceptionNext ? InceptionNext::load(config, weights)
                                                             : ConvNext::load(config, weights);
  if (!model) return model.error();
  if (const Status moved = (*model)->move_to_device(ctx); !moved) return moved.error();
  return model;
}

Result<std::unique_ptr<VisionModel>> load_vision_model(Context& ctx,
                                                       const io::Checkpoint& checkpoint) {
  const std::string source = checkpoint.config_path();
  const JsonObject fields(checkpoint.config(), source);
  const auto architecture = fields.string("architecture");
  if (!architecture) return architecture.error();
  if (!architecture->has_value()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: field 'architecture' is missing; expected the name of an image "
                      "classifier, such as \"inception_next_tiny\"",
                      source);
  }
  const auto config = vision_config(**architecture, checkpoint_shapes(checkpoint), source);
  if (!config) return config.error();
  const auto num_classes = fields.integer("num_classes", 1, int64_t{1} << 24);
  if (!num_classes) return num_classes.error();
  if (num_classes->value_or(config->num_classes) != config->num_classes) {
    return make_error(ErrorCode::kCorrupt,
                      "{}: num_classes is {}, but the head's tensors have {} classes", source,
                      **num_classes, config->num_classes);
  }
  const CheckpointSource tensors(checkpoint);
  if (!is_quantized(checkpoint)) return load_vision_model(ctx, *config, tensors);
  const auto scheme =
      formats::read_quantization_config(checkpoint.config()["quantization_config"], source);
  if (!scheme) return scheme.error();
  return load_vision_model(ctx, *config, tensors, &*scheme);
}

}  // namespace comet::models
