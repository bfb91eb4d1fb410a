// VisionModel: an image classifier at inference, whatever its architecture, and how it is opened:
// FP32 on the CPU; on a GPU BF16 with FP32 sums; products in the weight format that the
// checkpoint's quantization_config names. Images are NHWC, normalized by the caller, of any size of
// at least 32 × 32, where the device reads them (copy_to_device).
#pragma once

#include <array>
#include <memory>
#include <string>

#include "comet/io/checkpoint.h"
#include "comet/models/vision/weights/vision_products.h"
#include "comet/nn/image_layers.h"

namespace comet::models {

/// Images shrink 32 times on the way to the last stage, which needs a pixel.
constexpr int64_t kMinImageSize = 32;

using StageMaps = std::array<Tensor, kNumVisionStages>;
using ProductVisitor = std::function<void(nn::Linear&)>;

class VisionModel {
 public:
  virtual ~VisionModel() = default;

  /// Logits [images, classes], FP32 in ctx.arena; images [n, height, width, 3] FP32, on a GPU BF16,
  /// too.
  Tensor forward(Context& ctx, const Tensor& images) const;
  /// What the four stages put out, NHWC in ctx.arena, at 1/4, 1/8, 1/16 and 1/32 of the size.
  StageMaps features(Context& ctx, const Tensor& images) const;

  [[nodiscard]] const VisionConfig& config() const { return config_; }
  /// vision_products(config()), in that order; spec().name is a product's name.
  virtual void for_each_product(const ProductVisitor& visit) = 0;

 protected:
  explicit VisionModel(VisionConfig config) : config_(std::move(config)) {}

 private:
  friend Result<std::unique_ptr<VisionModel>> load_vision_model(
      Context& ctx, const VisionConfig& config, const formats::TensorSource& tensors,
      const formats::ModelScheme* scheme);
  /// Lays the weights as the device's kernels read them, once after loading.
  virtual Status move_to_device(Context& ctx) = 0;
  [[nodiscard]] virtual StageMaps run_stages(Context& ctx, const Tensor& images) const = 0;
  /// Logits of pooled [images, channels], written to `logits`.
  virtual void run_head(Context& ctx, const Tensor& pooled, const Tensor& logits) const = 0;

  VisionConfig config_;
};

/// Binds the tensors by timm's names; an error names tensor, expected and found shape. `scheme`:
/// how the products are quantized; null: not at all.
Result<std::unique_ptr<VisionModel>> load_vision_model(
    Context& ctx, const VisionConfig& config, const formats::TensorSource& tensors,
    const formats::ModelScheme* scheme = nullptr);

/// The same of a folder whose config.json names the architecture, as timm's on the Hugging Face hub
/// do: {"architecture": "inception_next_tiny", …}, with quantization_config where Comet quantized
/// it.
Result<std::unique_ptr<VisionModel>> load_vision_model(Context& ctx,
                                                       const io::Checkpoint& checkpoint);

}  // namespace comet::models
