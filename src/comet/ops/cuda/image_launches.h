// The operators over NHWC images on CUDA: what each kernel takes, all on one page. Callers:
// op_table_cuda.cpp and its image rows, the benches. Images are BF16, [images, height, width,
// channels], contiguous; weights, biases and their gradients FP32; pointers are device pointers.
// Any size and alignment is right. Launches throw CudaError; nothing is launched for no image.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "comet/ops/cuda/launches.h"

namespace comet::ops_cuda {

struct ImageSizes {
  int32_t num_images = 0;
  int32_t height = 0;
  int32_t width = 0;
  int32_t channels = 0;
};

/// weight [kernel_h, kernel_w, channels], bias [channels].
struct KernelWeights {
  const float* weight = nullptr;
  const float* bias = nullptr;
};
struct KernelGrads {
  float* weight = nullptr;
  float* bias = nullptr;
};

/// The first channels − 3·branch channels are copied, `branch` each go through 3×3, 1×band and
/// band×1. Bands of 9 and 11 are quick.
struct MixerArgs {
  void* out = nullptr;
  const void* x = nullptr;
  ImageSizes sizes;
  int32_t branch = 0;
  int32_t band = 0;  // odd
  KernelWeights square;
  KernelWeights band_w;
  KernelWeights band_h;
};
void launch_inception_mixer(const MixerArgs& args, CUstream_st* stream);

/// dx and gradients of weights are added to. The same bits for every launch on a card.
struct MixerBackwardArgs {
  void* dx = nullptr;
  const void* dy = nullptr;
  MixerArgs forward;  // `out` is not used
  KernelGrads square;
  KernelGrads band_w;
  KernelGrads band_h;
  float* workspace = nullptr;    // mixer_backward_workspace() floats
  uint32_t* arrivals = nullptr;  // CudaResources'
};
size_t mixer_backward_workspace(const MixerArgs& forward);
void launch_inception_mixer_backward(const MixerBackwardArgs& args, CUstream_st* stream);

/// Every channel through its own kernel of size × size; 7 is quick, other odd sizes up to 15 are
/// right.
struct DepthwiseArgs {
  void* out = nullptr;
  const void* x = nullptr;
  ImageSizes sizes;
  int32_t kernel_h = 0;
  int32_t kernel_w = 0;
  KernelWeights weights;
};
void launch_depthwise_conv(const DepthwiseArgs& args, CUstream_st* stream);

struct DepthwiseBackwardArgs {
  void* dx = nullptr;
  const void* dy = nullptr;
  DepthwiseArgs forward;  // `out` is not used
  KernelGrads grads;
  float* workspace = nullptr;  // depthwise_backward_workspace() floats
};
size_t depthwise_backward_workspace(const DepthwiseArgs& forward);
void launch_depthwise_conv_backward(const DepthwiseBackwardArgs& args, CUstream_st* stream);

/// sums [n] += over num_rows of the partials' rows, which hold the targets' (six at most) one after
/// the other; in one order whatever the card.
struct SumTarget {
  float* sums = nullptr;
  int64_t n = 0;
};
void launch_sum_partials(std::initializer_list<SumTarget> targets, const float* partials,
                         int64_t num_rows, CUstream_st* stream);

/// The kernel that makes the partials is the one before in the stream, and its CTAs count here
/// when what they write is there, partials or not: sums wait for that instead of the kernel's end,
/// and set the word to 0 again. That kernel allows the next one when it has seen the end of the one
/// before it, not sooner: those might be sums that still use the word.
struct Arrivals {
  uint32_t* count = nullptr;  // nullptr: sums wait for the end
  uint32_t num = 0;
};
void launch_sum_partials(std::initializer_list<SumTarget> targets, const float* partials,
                         int64_t num_rows, const Arrivals& arrivals, CUstream_st* stream);

/// GELU (out may be x) within 3.5e-5, and its gradient within 6.5e-5 before rounding (gelu.cuh).
void launch_gelu(const FloatRows& out, const FloatRows& x, int64_t rows, int64_t n,
                 CUstream_st* stream);
struct GeluBackwardArgs {
  FloatRows dx;
  FloatRows dy;
  FloatRows x;
  int64_t rows = 0;
  int64_t n = 0;
};
void launch_gelu_backward(const GeluBackwardArgs& args, CUstream_st* stream);

/// n up to kMaxNormSize.
struct LayerNormArgs {
  FloatRows out;
  FloatRows x;
  const float* weight = nullptr;
  const float* bias = nullptr;
  float eps = 0;
  int64_t rows = 0;
  int64_t n = 0;
};
void launch_layer_norm(const LayerNormArgs& args, CUstream_st* stream);

/// Patches of size × size pixels as rows [patches, size · size · channels]; images of any type.
struct PatchesArgs {
  FloatRows rows;
  void* images = nullptr;
  FloatType image_type = FloatType::kBF16;
  ImageSizes sizes;
  int32_t size = 0;
};
void launch_gather_patches(const PatchesArgs& args, CUstream_st* stream);
/// The other way round; pixels of no patch become 0.
void launch_scatter_patches(const PatchesArgs& args, CUstream_st* stream);

/// out [images, channels] = the mean over all pixels of x.
void launch_average_pool(const FloatRows& out, const void* x, FloatType type,
                         const ImageSizes& sizes, CUstream_st* stream);
/// dx = dy / pixels.
void launch_average_pool_backward(void* dx, FloatType type, const FloatRows& dy,
                                  const ImageSizes& sizes, CUstream_st* stream);

}  // namespace comet::ops_cuda
