// The operators of training on a GPU: from views to launches on ctx.cuda->stream. Those over images
// are image_slots_cuda.cpp's. Products are cuBLASLt's.
#include <bit>

#include "comet/device/cuda/cublaslt.h"
#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/cuda_resources.h"
#include "comet/ops/adamw/adamw.h"
#include "comet/ops/batch_norm/batch_norm.h"
#include "comet/ops/context.h"
#include "comet/ops/cross_entropy/cross_entropy.h"
#include "comet/ops/cuda/image_slots.h"
#include "comet/ops/cuda/training_launches.h"
#include "comet/ops/image_input/image_input.h"
#include "comet/ops/layer_scale/layer_scale.h"
#include "comet/ops/product/product.h"

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

float* workspace_of(Context& ctx, size_t num_floats) {
  return ctx.arena.alloc_array<float>(static_cast<int64_t>(num_floats) + 1);
}

/// The largest power of two up to 16 that divides all addresses.
uint8_t common_alignment(std::initializer_list<const void*> pointers) {
  uintptr_t bits = 16;
  for (const void* pointer : pointers) bits |= reinterpret_cast<uintptr_t>(pointer);
  return static_cast<uint8_t>(uintptr_t{1} << std::countr_zero(bits));
}

MatmulForm form_of(ProductForm form) {
  if (form == ProductForm::kForward) return MatmulForm::kForward;
  return form == ProductForm::kData ? MatmulForm::kData : MatmulForm::kWeight;
}

/// The bias in out's type, as cuBLASLt wants it.
const void* bias_of(Context& ctx, const View<const float, 1>& bias, DType dtype) {
  if (dtype == DType::kF32) return bias.data;
  const int64_t n = bias.size(0);
  const Tensor rounded = ctx.arena.alloc(dtype, {n});
  launch_convert({{rounded.raw(), n, float_type(dtype)},
                  {const_cast<float*>(bias.data), n, FloatType::kF32},
                  1,
                  n},
                 ctx.cuda->stream);
  return rounded.raw();
}

void product_cuda(Context& ctx, Rows out, ConstRows a, ConstRows b, ProductForm form,
                  const ProductEnd& end) {
  if (out.num_rows == 0 || out.num_columns == 0) return;
  COMET_CHECK(a.dtype == b.dtype, "a product of {} and {}", dtype_name(a.dtype),
              dtype_name(b.dtype));
  const ArenaScope scope(ctx.arena);
  MatmulDesc desc;
  desc.in = a.dtype;
  desc.out = out.dtype;
  desc.rows = out.num_rows;
  desc.n = out.num_columns;
  desc.k = form == ProductForm::kWeight ? a.num_rows : a.num_columns;
  desc.x_stride = a.stride;
  desc.w_stride = b.stride;
  desc.out_stride = out.stride;
  desc.form = form_of(form);
  desc.add_to_out = end.add_to_out;
  MatmulArgs args{.x = a.data, .w = b.data, .out = out.data};
  if (end.bias.data != nullptr) {
    desc.end = MatmulEnd::kBias;
    args.bias = bias_of(ctx, end.bias, out.dtype);
  }
  desc.align_bytes = common_alignment({a.data, b.data, out.data, args.bias});
  run_matmul(*cublaslt_of(*ctx.cuda).value(), desc, args, ctx.cuda->stream);
}

void column_sums_cuda(Context& ctx, View<float, 1> sums, ConstRows x) {
  const ArenaScope scope(ctx.arena);
  launch_column_sums({sums.data, rows_of(x), x.num_rows, x.num_columns,
                      workspace_of(ctx, column_workspace(x.num_rows, x.num_columns, 1))},
                     ctx.cuda->stream);
}

void batch_moments_cuda(Context& ctx, const BatchMoments& moments, const RunningMoments& running,
                        ConstRows x, float eps) {
  const ArenaScope scope(ctx.arena);
  MomentsArgs args;
  args.mean = moments.mean.data;
  args.inv_std = moments.inv_std.data;
  args.running_mean = running.mean.data;
  args.running_variance = running.variance.data;
  args.momentum = running.momentum;
  args.eps = eps;
  args.n = moments.mean.size(0);
  if (!x.empty()) {
    args.x = rows_of(x);
    args.rows = x.num_rows;
    args.workspace = workspace_of(ctx, column_workspace(x.num_rows, x.num_columns, 2));
  }
  launch_batch_moments(args, ctx.cuda->stream);
}

NormArgs norm_args(const ConstRows& out, const ConstRows& x) {
  NormArgs args;
  args.out = rows_of(out);
  args.x = rows_of(x);
  args.rows = x.num_rows;
  args.n = x.num_columns;
  return args;
}

void batch_norm_cuda(Context& ctx, Rows out, ConstRows x, const BatchMoments& moments,
                     const BatchNormWeights& norm) {
  NormArgs args = norm_args(out, x);
  args.mean = moments.mean.data;
  args.inv_std = moments.inv_std.data;
  args.weight = norm.weight.data;
  args.bias = norm.bias.data;
  launch_batch_norm(args, ctx.cuda->stream);
}

void batch_norm_backward_cuda(Context& ctx, Rows dx, const NormGrads& grads, ConstRows dy,
                              ConstRows x, const BatchMoments& moments,
                              const BatchNormWeights& norm) {
  const ArenaScope scope(ctx.arena);
  NormArgs args = norm_args(dx, x);
  args.dy = rows_of(dy);
  args.mean = moments.mean.data;
  args.inv_std = moments.inv_std.data;
  args.weight = norm.weight.data;
  args.weight_grad = grads.weight.data;
  args.bias_grad = grads.bias.data;
  args.workspace =
      workspace_of(ctx, column_workspace(args.rows, args.n, 2) + 2 * static_cast<size_t>(args.n));
  launch_batch_norm_backward(args, ctx.cuda->stream);
}

void layer_norm_backward_cuda(Context& ctx, Rows dx, const NormGrads& grads, ConstRows dy,
                              ConstRows x, const LayerNormWeights& norm) {
  const ArenaScope scope(ctx.arena);
  NormArgs args = norm_args(dx, x);
  args.dy = rows_of(dy);
  args.weight = norm.weight.data;
  args.weight_grad = grads.weight.data;
  args.bias_grad = grads.bias.data;
  args.eps = norm.eps;
  args.workspace = workspace_of(
      ctx, column_workspace(args.rows, args.n, 2) + 2 * static_cast<size_t>(args.rows));
  launch_layer_norm_backward(args, ctx.cuda->stream);
}

int64_t rows_per_image(const LayerScale& scale, int64_t rows) {
  return scale.keep.data == nullptr ? std::max<int64_t>(1, rows) : rows / scale.keep.size(0);
}

void layer_scale_cuda(Context& ctx, Rows out, ConstRows x, ConstRows branch,
                      const LayerScale& scale) {
  launch_layer_scale({rows_of(out), rows_of(x), rows_of(branch), scale.gamma.data, scale.keep.data,
                      rows_per_image(scale, x.num_rows), x.num_rows, x.num_columns},
                     ctx.cuda->stream);
}

void layer_scale_backward_cuda(Context& ctx, Rows dbranch, View<float, 1> dgamma, ConstRows dy,
                               ConstRows branch, const LayerScale& scale) {
  const ArenaScope scope(ctx.arena);
  launch_layer_scale_backward(
      {rows_of(dbranch), rows_of(dy), rows_of(branch), dgamma.data, scale.gamma.data,
       scale.keep.data, rows_per_image(scale, dy.num_rows), dy.num_rows, dy.num_columns,
       workspace_of(ctx, column_workspace(dy.num_rows, dy.num_columns, 1))},
      ctx.cuda->stream);
}

void cross_entropy_cuda(Context& ctx, View<float, 1> losses, Rows dlogits, ConstRows logits,
                        View<const float, 2> targets, float scale) {
  launch_cross_entropy({losses.data, rows_of(dlogits), rows_of(logits), targets.data,
                        targets.strides[0], scale, logits.num_rows, logits.num_columns},
                       ctx.cuda->stream);
}

void image_input_cuda(Context& ctx, Images out, View<const uint8_t, 4> pixels,
                      const ImageInput& input) {
  ImageInputArgs args;
  args.out = {out.data, 0, float_type(out.dtype)};
  args.pixels = pixels.data;
  args.num_images = static_cast<int32_t>(out.num_images);
  args.height = static_cast<int32_t>(out.height);
  args.width = static_cast<int32_t>(out.width);
  for (size_t c = 0; c < input.mean.size(); ++c) {
    args.scale[c] = 1.0F / (255.0F * input.std[c]);
    args.shift[c] = -input.mean[c] / input.std[c];
  }
  args.mixup_share = input.mixup_share;
  args.top = static_cast<int32_t>(input.top);
  args.bottom = static_cast<int32_t>(input.bottom);
  args.left = static_cast<int32_t>(input.left);
  args.right = static_cast<int32_t>(input.right);
  launch_image_input(args, ctx.cuda->stream);
}

void set_zero_cuda(Context& ctx, View<float, 1> x) {
  COMET_CUDA(
      cudaMemsetAsync(x.data, 0, static_cast<size_t>(x.size(0)) * sizeof(float), ctx.cuda->stream));
}

void squared_norm_cuda(Context& ctx, View<float, 1> sum, View<const float, 1> x) {
  const ArenaScope scope(ctx.arena);
  launch_squared_norm(sum.data, x.data, x.size(0), workspace_of(ctx, kNormPartials),
                      ctx.cuda->stream);
}

void adamw_cuda(Context& ctx, const AdamWParameters& parameters, const AdamWSettings& settings) {
  const Rows& shadow = parameters.shadow;
  COMET_CHECK(shadow.empty() || shadow.dtype == DType::kBF16, "a shadow of {}",
              dtype_name(shadow.dtype));
  AdamWArgs args;
  args.value = parameters.value.data;
  args.grad = parameters.grad.data;
  args.first = parameters.first.data;
  args.second = parameters.second.data;
  args.shadow = static_cast<uint16_t*>(shadow.data);
  args.schedule = settings.schedule.data;
  args.squared_norm = settings.squared_norm.data;
  args.beta1 = settings.beta1;
  args.beta2 = settings.beta2;
  args.eps = settings.eps;
  args.weight_decay = settings.weight_decay;
  args.max_grad_norm = settings.max_grad_norm;
  args.count = parameters.value.size(0);
  launch_adamw(args, ctx.cuda->stream);
}

void moving_average_cuda(Context& ctx, View<float, 1> average, View<const float, 1> x, float decay,
                         View<const float, 1> guard) {
  launch_moving_average(average.data, x.data, decay, guard.data, x.size(0), ctx.cuda->stream);
}

}  // namespace

void fill_training_slots(OpTable& table) {
  table.product = product_cuda;
  table.column_sums = column_sums_cuda;
  table.batch_moments = batch_moments_cuda;
  table.batch_norm = batch_norm_cuda;
  table.batch_norm_backward = batch_norm_backward_cuda;
  table.layer_norm_backward = layer_norm_backward_cuda;
  table.layer_scale = layer_scale_cuda;
  table.layer_scale_backward = layer_scale_backward_cuda;
  table.cross_entropy = cross_entropy_cuda;
  table.image_input = image_input_cuda;
  table.set_zero = set_zero_cuda;
  table.squared_norm = squared_norm_cuda;
  table.adamw = adamw_cuda;
  table.moving_average = moving_average_cuda;
}

}  // namespace comet::ops_cuda
