// The operators over images of a GPU: from Images and Rows to launches on ctx.cuda->stream.
#include "comet/ops/cuda/image_slots.h"

#include "comet/device/cuda/cuda_resources.h"
#include "comet/ops/context.h"
#include "comet/ops/cuda/image_launches.h"
#include "comet/ops/inception_mixer/inception_mixer_backward.h"
#include "comet/ops/layer_norm/layer_norm.h"

namespace comet::ops_cuda {
namespace {

FloatType float_type(DType dtype) {
  COMET_CHECK(dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16, "{} as floats",
              dtype_name(dtype));
  return static_cast<FloatType>(dtype);
}

/// A kernel that may write is given what it may write by its other arguments only.
FloatRows rows_of(const ConstRows& x) {
  return {const_cast<void*>(x.data), x.stride, float_type(x.dtype)};
}

ImageSizes sizes_of(const ConstImages& x) {
  return {static_cast<int32_t>(x.num_images), static_cast<int32_t>(x.height),
          static_cast<int32_t>(x.width), static_cast<int32_t>(x.channels)};
}

void check_bf16(const ConstImages& x) {
  COMET_CHECK(x.dtype == DType::kBF16, "images of {} on a GPU; expected BF16", dtype_name(x.dtype));
}

KernelWeights weights_of(const DepthwiseWeights& weights) {
  return {weights.weight.data, weights.bias.data};
}

KernelGrads grads_of(const DepthwiseGrads& grads) { return {grads.weight.data, grads.bias.data}; }

MixerArgs mixer_args(const ConstImages& x, const InceptionWeights& weights) {
  check_bf16(x);
  MixerArgs args;
  args.x = x.data;
  args.sizes = sizes_of(x);
  args.branch = static_cast<int32_t>(weights.square.bias.size(0));
  args.band = static_cast<int32_t>(weights.band_w.weight.size(1));
  COMET_CHECK(weights.square.weight.size(0) == 3 && weights.square.weight.size(1) == 3 &&
                  weights.band_w.weight.size(0) == 1 && weights.band_h.weight.size(1) == 1 &&
                  weights.band_h.weight.size(0) == args.band,
              "a mixer of other kernels than 3x3, 1xk and kx1");
  args.square = weights_of(weights.square);
  args.band_w = weights_of(weights.band_w);
  args.band_h = weights_of(weights.band_h);
  return args;
}

void inception_mixer_cuda(Context& ctx, Images out, ConstImages x,
                          const InceptionWeights& weights) {
  MixerArgs args = mixer_args(x, weights);
  args.out = out.data;
  launch_inception_mixer(args, ctx.cuda->stream);
}

void inception_mixer_backward_cuda(Context& ctx, Images dx, const InceptionGrads& grads,
                                   ConstImages dy, ConstImages x, const InceptionWeights& weights) {
  check_bf16(dy);
  MixerBackwardArgs args;
  args.forward = mixer_args(x, weights);
  args.dx = dx.data;
  args.dy = dy.data;
  args.square = grads_of(grads.square);
  args.band_w = grads_of(grads.band_w);
  args.band_h = grads_of(grads.band_h);
  const ArenaScope scope(ctx.arena);
  args.workspace = ctx.arena.alloc_array<float>(
      static_cast<int64_t>(mixer_backward_workspace(args.forward)) + 1);
  args.arrivals = ctx.cuda->arrivals;
  launch_inception_mixer_backward(args, ctx.cuda->stream);
}

DepthwiseArgs depthwise_args(const ConstImages& x, const DepthwiseWeights& weights) {
  check_bf16(x);
  DepthwiseArgs args;
  args.x = x.data;
  args.sizes = sizes_of(x);
  args.kernel_h = static_cast<int32_t>(weights.weight.size(0));
  args.kernel_w = static_cast<int32_t>(weights.weight.size(1));
  args.weights = weights_of(weights);
  return args;
}

void depthwise_conv_cuda(Context& ctx, Images out, ConstImages x, const DepthwiseWeights& weights) {
  DepthwiseArgs args = depthwise_args(x, weights);
  args.out = out.data;
  launch_depthwise_conv(args, ctx.cuda->stream);
}

void depthwise_conv_backward_cuda(Context& ctx, Images dx, const DepthwiseGrads& grads,
                                  ConstImages dy, ConstImages x, const DepthwiseWeights& weights) {
  check_bf16(dy);
  DepthwiseBackwardArgs args;
  args.forward = depthwise_args(x, weights);
  args.dx = dx.data;
  args.dy = dy.data;
  args.grads = grads_of(grads);
  const ArenaScope scope(ctx.arena);
  args.workspace = ctx.arena.alloc_array<float>(
      static_cast<int64_t>(depthwise_backward_workspace(args.forward)) + 1);
  launch_depthwise_conv_backward(args, ctx.cuda->stream);
}

void layer_norm_cuda(Context& ctx, Rows out, ConstRows x, const LayerNormWeights& norm) {
  COMET_CHECK(x.num_columns <= kMaxNormSize, "a norm of {} values", x.num_columns);
  launch_layer_norm({rows_of(out), rows_of(x), norm.weight.data, norm.bias.data, norm.eps,
                     x.num_rows, x.num_columns},
                    ctx.cuda->stream);
}

void gelu_cuda(Context& ctx, Rows out, ConstRows x) {
  launch_gelu(rows_of(out), rows_of(x), x.num_rows, x.num_columns, ctx.cuda->stream);
}

void gelu_backward_cuda(Context& ctx, Rows dx, ConstRows dy, ConstRows x) {
  launch_gelu_backward({rows_of(dx), rows_of(dy), rows_of(x), x.num_rows, x.num_columns},
                       ctx.cuda->stream);
}

PatchesArgs patches_args(const ConstRows& rows, const ConstImages& images, int64_t size) {
  PatchesArgs args;
  args.rows = rows_of(rows);
  args.images = const_cast<void*>(images.data);  // as in rows_of
  args.image_type = float_type(images.dtype);
  args.sizes = sizes_of(images);
  args.size = static_cast<int32_t>(size);
  return args;
}

void gather_patches_cuda(Context& ctx, Rows out, ConstImages x, int64_t size) {
  launch_gather_patches(patches_args(out, x, size), ctx.cuda->stream);
}

void scatter_patches_cuda(Context& ctx, Images dx, ConstRows dy, int64_t size) {
  launch_scatter_patches(patches_args(dy, dx, size), ctx.cuda->stream);
}

void average_pool_cuda(Context& ctx, Rows out, ConstImages x) {
  launch_average_pool(rows_of(out), x.data, float_type(x.dtype), sizes_of(x), ctx.cuda->stream);
}

void average_pool_backward_cuda(Context& ctx, Images dx, ConstRows dy) {
  launch_average_pool_backward(dx.data, float_type(dx.dtype), rows_of(dy), sizes_of(dx),
                               ctx.cuda->stream);
}

}  // namespace

void fill_image_slots(OpTable& table) {
  table.inception_mixer = inception_mixer_cuda;
  table.inception_mixer_backward = inception_mixer_backward_cuda;
  table.depthwise_conv = depthwise_conv_cuda;
  table.depthwise_conv_backward = depthwise_conv_backward_cuda;
  table.layer_norm = layer_norm_cuda;
  table.gelu = gelu_cuda;
  table.gelu_backward = gelu_backward_cuda;
  table.gather_patches = gather_patches_cuda;
  table.scatter_patches = scatter_patches_cuda;
  table.average_pool = average_pool_cuda;
  table.average_pool_backward = average_pool_backward_cuda;
}

}  // namespace comet::ops_cuda
