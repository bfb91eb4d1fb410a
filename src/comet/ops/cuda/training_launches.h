// The operators of training on CUDA: what each kernel takes, all on one page. Callers:
// training_slots_cuda.cpp. Activations are rows of any float type; parameters, gradients, moments
// and sums FP32. No atomics: the same bits for every launch on any card. Workspaces are floats.
#pragma once

#include <cstddef>
#include <cstdint>

#include "comet/ops/cuda/launches.h"

namespace comet::ops_cuda {

/// Floats of workspace that sums over the rows of [rows, n] take, `num_sums` of them at once.
size_t column_workspace(int64_t rows, int64_t n, int num_sums);

/// sums [n] += over the rows of x.
struct ColumnSumsArgs {
  float* sums = nullptr;
  FloatRows x;
  int64_t rows = 0;
  int64_t n = 0;
  float* workspace = nullptr;  // 1 sum
};
void launch_column_sums(const ColumnSumsArgs& args, CUstream_st* stream);

/// mean and inv_std of the columns of x, and the running ones (mean and variance with Bessel's
/// correction) moved towards them; rows == 0: those of the running ones.
struct MomentsArgs {
  float* mean = nullptr;
  float* inv_std = nullptr;
  float* running_mean = nullptr;
  float* running_variance = nullptr;
  float momentum = 0;
  float eps = 0;
  FloatRows x;
  int64_t rows = 0;
  int64_t n = 0;
  float* workspace = nullptr;  // 2 sums
};
void launch_batch_moments(const MomentsArgs& args, CUstream_st* stream);

/// A norm of columns, or of rows: weight and bias [n].
struct NormArgs {
  FloatRows out;  // dx of the gradient
  FloatRows x;
  FloatRows dy;                 // of the gradient
  const float* mean = nullptr;  // [n] of a batch norm
  const float* inv_std = nullptr;
  const float* weight = nullptr;
  const float* bias = nullptr;
  float* weight_grad = nullptr;  // added to
  float* bias_grad = nullptr;
  float eps = 0;  // of a layer norm
  int64_t rows = 0;
  int64_t n = 0;
  float* workspace = nullptr;
};
void launch_batch_norm(const NormArgs& args, CUstream_st* stream);
/// workspace: 2 sums and 2·n floats.
void launch_batch_norm_backward(const NormArgs& args, CUstream_st* stream);
/// workspace: 2 sums and 2·rows floats; n up to kMaxNormSize.
void launch_layer_norm_backward(const NormArgs& args, CUstream_st* stream);

/// out = x + keep[image] · gamma ∘ branch; keep null: 1.
struct LayerScaleArgs {
  FloatRows out;
  FloatRows x;
  FloatRows branch;
  const float* gamma = nullptr;
  const float* keep = nullptr;
  int64_t rows_per_image = 1;
  int64_t rows = 0;
  int64_t n = 0;
};
void launch_layer_scale(const LayerScaleArgs& args, CUstream_st* stream);

/// dbranch = keep[image] · gamma ∘ dy; dgamma += Σ keep[image] · dy ∘ branch.
struct LayerScaleBackwardArgs {
  FloatRows dbranch;
  FloatRows dy;
  FloatRows branch;
  float* dgamma = nullptr;
  const float* gamma = nullptr;
  const float* keep = nullptr;
  int64_t rows_per_image = 1;
  int64_t rows = 0;
  int64_t n = 0;
  float* workspace = nullptr;  // 1 sum
};
void launch_layer_scale_backward(const LayerScaleBackwardArgs& args, CUstream_st* stream);

/// losses [rows] and dlogits = scale · (Σ target · softmax − target).
struct CrossEntropyArgs {
  float* losses = nullptr;
  FloatRows dlogits;
  FloatRows logits;
  const float* targets = nullptr;
  int64_t target_stride = 0;
  float scale = 1;
  int64_t rows = 0;
  int64_t n = 0;
};
void launch_cross_entropy(const CrossEntropyArgs& args, CUstream_st* stream);

/// out = pixel · scale + shift of every colour, mixed as ImageInput (ops/image_input) says.
struct ImageInputArgs {
  FloatRows out;  // its stride is not read
  const uint8_t* pixels = nullptr;
  int32_t num_images = 0;
  int32_t height = 0;
  int32_t width = 0;
  float scale[3] = {};
  float shift[3] = {};
  float mixup_share = 1;
  int32_t top = 0, bottom = 0, left = 0, right = 0;
};
void launch_image_input(const ImageInputArgs& args, CUstream_st* stream);

constexpr int kNormPartials = 264;
/// sum [1] = Σ x²; workspace: kNormPartials floats.
void launch_squared_norm(float* sum, const float* x, int64_t count, float* workspace,
                         CUstream_st* stream);

/// As AdamWParameters and AdamWSettings (ops/adamw/adamw.h); shadow may be null.
struct AdamWArgs {
  float* value = nullptr;
  const float* grad = nullptr;
  float* first = nullptr;
  float* second = nullptr;
  uint16_t* shadow = nullptr;
  const float* schedule = nullptr;
  const float* squared_norm = nullptr;
  float beta1 = 0;
  float beta2 = 0;
  float eps = 0;
  float weight_decay = 0;
  float max_grad_norm = 0;
  int64_t count = 0;
};
void launch_adamw(const AdamWArgs& args, CUstream_st* stream);

/// average = decay · average + (1 − decay) · x where guard[0] is finite.
void launch_moving_average(float* average, const float* x, float decay, const float* guard,
                           int64_t count, CUstream_st* stream);

}  // namespace comet::ops_cuda
