#include "comet/ops/training_ops_cpu.h"

#include "comet/ops/adamw/adamw.h"
#include "comet/ops/average_pool/average_pool_backward.h"
#include "comet/ops/batch_norm/batch_norm.h"
#include "comet/ops/cross_entropy/cross_entropy.h"
#include "comet/ops/gather_patches/scatter_patches.h"
#include "comet/ops/gelu/gelu_backward.h"
#include "comet/ops/image_input/image_input.h"
#include "comet/ops/inception_mixer/inception_mixer_backward.h"
#include "comet/ops/layer_scale/layer_scale.h"
#include "comet/ops/product/product.h"
#include "comet/ops/set_zero/set_zero.h"

namespace comet {

TrainingOps cpu_training_ops() {
  return {.product = product_cpu,
          .column_sums = column_sums_cpu,
          .inception_mixer_backward = inception_mixer_backward_cpu,
          .depthwise_conv_backward = depthwise_conv_backward_cpu,
          .scatter_patches = scatter_patches_cpu,
          .batch_moments = batch_moments_cpu,
          .batch_norm = batch_norm_cpu,
          .batch_norm_backward = batch_norm_backward_cpu,
          .layer_norm_backward = layer_norm_backward_cpu,
          .gelu_backward = gelu_backward_cpu,
          .layer_scale = layer_scale_cpu,
          .layer_scale_backward = layer_scale_backward_cpu,
          .average_pool_backward = average_pool_backward_cpu,
          .cross_entropy = cross_entropy_cpu,
          .image_input = image_input_cpu,
          .set_zero = set_zero_cpu,
          .squared_norm = squared_norm_cpu,
          .adamw = adamw_cpu,
          .moving_average = moving_average_cpu};
}

}  // namespace comet
