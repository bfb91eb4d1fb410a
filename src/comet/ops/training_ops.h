// The operators that only training calls, one typed slot each: a part of OpTable (op_table.h). What
// they compute stands in <op>/<op>.h. Activations are of the device's type (Rows, Images);
// parameters, their gradients and moments FP32 on every device. Gradients of parameters are added.
#pragma once

#include "comet/tensor/images.h"

namespace comet {

struct AdamWParameters;
struct AdamWSettings;
struct BatchMoments;
struct BatchNormWeights;
struct Context;
struct DepthwiseGrads;
struct DepthwiseWeights;
struct ImageInput;
struct InceptionGrads;
struct InceptionWeights;
struct LayerNormWeights;
struct LayerScale;
struct NormGrads;
struct ProductEnd;
struct RunningMoments;
enum class ProductForm;

struct TrainingOps {
  void (*product)(Context& ctx, Rows out, ConstRows a, ConstRows b, ProductForm form,
                  const ProductEnd& end);
  void (*column_sums)(Context& ctx, View<float, 1> sums, ConstRows x);
  void (*inception_mixer_backward)(Context& ctx, Images dx, const InceptionGrads& grads,
                                   ConstImages dy, ConstImages x, const InceptionWeights& weights);
  void (*depthwise_conv_backward)(Context& ctx, Images dx, const DepthwiseGrads& grads,
                                  ConstImages dy, ConstImages x, const DepthwiseWeights& weights);
  void (*scatter_patches)(Context& ctx, Images dx, ConstRows dy, int64_t size);
  void (*batch_moments)(Context& ctx, const BatchMoments& moments, const RunningMoments& running,
                        ConstRows x, float eps);
  void (*batch_norm)(Context& ctx, Rows out, ConstRows x, const BatchMoments& moments,
                     const BatchNormWeights& norm);
  void (*batch_norm_backward)(Context& ctx, Rows dx, const NormGrads& grads, ConstRows dy,
                              ConstRows x, const BatchMoments& moments,
                              const BatchNormWeights& norm);
  void (*layer_norm_backward)(Context& ctx, Rows dx, const NormGrads& grads, ConstRows dy,
                              ConstRows x, const LayerNormWeights& norm);
  void (*gelu_backward)(Context& ctx, Rows dx, ConstRows dy, ConstRows x);
  void (*layer_scale)(Context& ctx, Rows out, ConstRows x, ConstRows branch,
                      const LayerScale& scale);
  void (*layer_scale_backward)(Context& ctx, Rows dbranch, View<float, 1> dgamma, ConstRows dy,
                               ConstRows branch, const LayerScale& scale);
  void (*average_pool_backward)(Context& ctx, Images dx, ConstRows dy);
  void (*cross_entropy)(Context& ctx, View<float, 1> losses, Rows dlogits, ConstRows logits,
                        View<const float, 2> targets, float scale);
  void (*image_input)(Context& ctx, Images out, View<const uint8_t, 4> pixels,
                      const ImageInput& input);
  void (*set_zero)(Context& ctx, View<float, 1> x);
  void (*squared_norm)(Context& ctx, View<float, 1> sum, View<const float, 1> x);
  void (*adamw)(Context& ctx, const AdamWParameters& parameters, const AdamWSettings& settings);
  void (*moving_average)(Context& ctx, View<float, 1> average, View<const float, 1> x, float decay,
                         View<const float, 1> guard);
};

}  // namespace comet
