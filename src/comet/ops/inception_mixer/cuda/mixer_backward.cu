// Gradients of inception_mixer on BF16 NHWC images in one pass over dy and x: dx += the transposed
// mixer of dy; dw[t] = Σ dy[p] · x[p + t − half], db = Σ dy over all pixels, in FP32.
// Grid: as many CTAs as run at once; each takes bands blockIdx.x, + gridDim.x, … of all images
// (walkers.cuh). A thread keeps its channels, so its sums stay in registers through all its bands;
// then a CTA adds its threads' in shared memory, writes one row of partials, and sum_partials adds
// the rows. No atomics: the same bits for every launch on a card.
// Partials of a CTA: [9 taps, bias | band taps, bias | band taps, bias][branch].
// Floor: 3⅜ · bytes of x at copy rate (dy and dx read, dx written, x's branches read): stage 1 of
// InceptionNeXt-T at 128 images 260 MB, 60 µs at 4.3 TB/s; twice the FMAs of the forward pass.
#include <cuda_runtime_api.h>

#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/vectors.cuh"
#include "comet/ops/inception_mixer/cuda/cut.h"
#include "comet/ops/inception_mixer/cuda/walkers.cuh"

namespace comet::ops_cuda {
namespace mixer {
namespace {

constexpr int kSquareSums = 10;  // 9 taps and the bias
constexpr int kMaxCtas = 264;    // two on each of 132 SMs

/// The sums of one thread: taps, then the bias.
template <int kVec, int kBand>
struct Sums {
  static constexpr int kNum = kBand + 1 > kSquareSums ? kBand + 1 : kSquareSums;
  float v[kNum][kVec];
};

/// dx of a walker of a band branch, and its share of the sums.
template <int kVec, int kBand>
__device__ __forceinline__ void walk_line(Sums<kVec, kBand>& sums, uint16_t* dx, const uint16_t* dy,
                                          const uint16_t* x, const Line& line, const float* weight,
                                          int branch) {
  float grads[kOutputs][kVec] = {};
  uint32_t
      centre[kOutputs];  // dy of the outputs, 0 where there is none: packed, as registers are few
  float w[kBand][kVec];
#pragma unroll
  for (int t = 0; t < kBand; ++t) load_weights(w[t], weight + (kBand - 1 - t) * branch);
  for_inputs<kVec, kBand>(dy, line, [&](int i, const float(&v)[kVec]) {
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      if (i - r >= 0 && i - r < kBand) fma_channels(grads[r], w[i - r], v);
      if (i - r != kBand / 2) continue;
      centre[r] = prims::bf16x2_of(v[0], v[1]);
      sums.v[kBand][0] += v[0];
      sums.v[kBand][1] += v[1];
    }
  });
  store_line<true>(dx, line, grads);
  for_inputs<kVec, kBand>(x, line, [&](int i, const float(&v)[kVec]) {
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      if (i - r < 0 || i - r >= kBand) continue;
      float grad[kVec];
      widen(grad[0], grad[1], centre[r]);
      fma_channels(sums.v[i - r], grad, v);
    }
  });
}

/// The same of a 3×3 walker.
template <int kVec, int kBand>
__device__ __forceinline__ void walk_column(Sums<kVec, kBand>& sums, uint16_t* dx,
                                            const uint16_t* dy, const uint16_t* x,
                                            const ImageSizes& sizes, const Column& column,
                                            const float* weight, int branch) {
  float grads[kOutputs][kVec] = {};
  convolve_column<kVec, true>(grads, dy, sizes, column, weight, branch);
  store_column<true>(dx, sizes, column, grads);
  float centre[kOutputs][kVec];
  const int pitch = sizes.width * sizes.channels;
  const uint16_t* p = dy + column.corner + pitch + sizes.channels;
#pragma unroll
  for (int r = 0; r < kOutputs; ++r) {
    load_channels_if(centre[r], p + static_cast<int64_t>(r) * pitch,
                     column.first_row + r < sizes.height);
#pragma unroll
    for (int i = 0; i < kVec; ++i) sums.v[9][i] += centre[r][i];
  }
#pragma unroll
  for (int i = 0; i < kOutputs + 2; ++i) {
    float v[3][kVec];
    load_square_row(v, x, sizes, column, i);
#pragma unroll
    for (int ty = 0; ty < 3; ++ty) {
      const int r = i - ty;
      if (r < 0 || r >= kOutputs) continue;
#pragma unroll
      for (int tx = 0; tx < 3; ++tx) fma_channels(sums.v[3 * ty + tx], centre[r], v[tx]);
    }
  }
}

/// Adds the sums of the threads that share channels, in the order of their slots.
template <int kVec, int kBand>
__device__ __forceinline__ void write_partials(const Sums<kVec, kBand>& sums, const Role& role,
                                               const Cut& cut, int branch, float* partials) {
  __shared__ float shared[Sums<kVec, kBand>::kNum * kVec][kMixerThreads];
#pragma unroll
  for (int e = 0; e < Sums<kVec, kBand>::kNum; ++e) {
#pragma unroll
    for (int i = 0; i < kVec; ++i) shared[e * kVec + i][threadIdx.x] = sums.v[e][i];
  }
  __syncthreads();
  if (!role.is_active || role.slot != 0) return;
  const int num_sums = role.branch == kSquare ? kSquareSums : kBand + 1;
  const int first_sum =
      role.branch == kSquare ? 0 : kSquareSums + (static_cast<int>(role.branch) - 1) * (kBand + 1);
  const int chunk = min(cut.chunk_vecs, cut.vecs - static_cast<int>(blockIdx.y) * cut.chunk_vecs);
  for (int e = 0; e < num_sums; ++e) {
#pragma unroll
    for (int i = 0; i < kVec; ++i) {
      float sum = 0.0F;
      for (int slot = 0; slot < role.num_slots; ++slot) {
        sum += shared[e * kVec + i][static_cast<int>(threadIdx.x) + slot * chunk];
      }
      partials[(first_sum + e) * branch + role.vec * kVec + i] = sum;
    }
  }
}

template <int kVec, int kBand>
__global__ void __launch_bounds__(kMixerThreads, 2)
    mixer_backward_kernel(MixerBackwardArgs args, Cut cut, bool is_wide) {
  const ImageSizes& sizes = args.forward.sizes;
  const int branch = args.forward.branch;
  const auto* x = static_cast<const uint16_t*>(args.forward.x);
  const auto* dy = static_cast<const uint16_t*>(args.dy);
  auto* dx = static_cast<uint16_t*>(args.dx);
  const Role role = role_of_thread(cut);
  const int num_kept = sizes.channels - 3 * branch;
  const int within = role.vec * kVec;
  const int channel = num_kept + static_cast<int>(role.branch) * branch + within;
  const float* weight = weight_of(args.forward, role.branch) + within;
  Sums<kVec, kBand> sums = {};
  for (int band = static_cast<int>(blockIdx.x); band < cut.num_bands;
       band += static_cast<int>(gridDim.x)) {
    const BandPlace place = band_place(sizes, cut, band);
    const int num = role.is_active ? num_walkers(sizes, place, role.branch) : 0;
    for (int walker = role.slot; walker < num; walker += role.num_slots) {
      if (role.branch == kSquare) {
        walk_column<kVec, kBand>(sums, dx + channel, dy + channel, x + channel, sizes,
                                 column_of(sizes, place, walker), weight, branch);
      } else {
        walk_line<kVec, kBand>(sums, dx + channel, dy + channel, x + channel,
                               line_of(sizes, place, role.branch, walker), weight, branch);
      }
    }
    copy_kept<true, kVec>(dx, dy, sizes, place, num_kept, is_wide);
  }
  const int64_t num_sums = kSquareSums + 2 * (kBand + 1);
  write_partials<kVec, kBand>(sums, role, cut, branch,
                              args.workspace + blockIdx.x * num_sums * branch);
}

/// Gradients of a kernel of any size: a CTA makes those of one tap (or the bias) of one channel.
struct AnyGradArgs {
  const void* x = nullptr;
  const void* dy = nullptr;
  ImageSizes sizes;
  int32_t first_channel = 0;
  int32_t branch = 0;
  int32_t kernel_h = 0;
  int32_t kernel_w = 0;
  KernelGrads grads;
};

__global__ void __launch_bounds__(kThreads) any_grad_kernel(AnyGradArgs args) {
  __shared__ float partial[32];
  const int channel = static_cast<int>(blockIdx.x) % args.branch;
  const int tap = static_cast<int>(blockIdx.x) / args.branch;
  const int taps = args.kernel_h * args.kernel_w;
  const int shift_y = tap / args.kernel_w - args.kernel_h / 2;
  const int shift_x = tap % args.kernel_w - args.kernel_w / 2;
  const ImageSizes& sizes = args.sizes;
  const auto* x = static_cast<const uint16_t*>(args.x) + args.first_channel + channel;
  const auto* dy = static_cast<const uint16_t*>(args.dy) + args.first_channel + channel;
  const int64_t num_pixels = static_cast<int64_t>(sizes.num_images) * sizes.height * sizes.width;
  float sum = 0.0F;
  for (int64_t i = threadIdx.x; i < num_pixels; i += kThreads) {
    const float grad = prims::f32_of_bf16(dy[i * sizes.channels]);
    if (tap == taps) {
      sum += grad;
      continue;
    }
    const auto in_image = static_cast<int>(i % (static_cast<int64_t>(sizes.height) * sizes.width));
    const int row = in_image / sizes.width + shift_y;
    const int column = in_image % sizes.width + shift_x;
    if (row < 0 || row >= sizes.height || column < 0 || column >= sizes.width) continue;
    const int64_t at = i + static_cast<int64_t>(shift_y) * sizes.width + shift_x;
    sum = fmaf(grad, prims::f32_of_bf16(x[at * sizes.channels]), sum);
  }
  sum = block_sum(sum, partial);
  if (threadIdx.x != 0) return;
  float* to = tap == taps ? args.grads.bias + channel
                          : args.grads.weight + static_cast<int64_t>(tap) * args.branch + channel;
  *to += sum;
}

void launch_any(const MixerBackwardArgs& args, CUstream_st* stream) {
  MixerArgs transposed = args.forward;
  transposed.out = args.dx;
  transposed.x = args.dy;
  launch_transposed(transposed, stream);
  if (args.forward.branch == 0) return;
  const int num_kept = args.forward.sizes.channels - 3 * args.forward.branch;
  const auto launch_grads = [&](int branch_idx, int kernel_h, int kernel_w, KernelGrads grads) {
    const AnyGradArgs any{args.forward.x,
                          args.dy,
                          args.forward.sizes,
                          num_kept + branch_idx * args.forward.branch,
                          args.forward.branch,
                          kernel_h,
                          kernel_w,
                          grads};
    const auto num_ctas = static_cast<unsigned>((kernel_h * kernel_w + 1) * args.forward.branch);
    any_grad_kernel<<<num_ctas, kThreads, 0, stream>>>(any);
    COMET_CUDA(cudaGetLastError());
  };
  launch_grads(0, 3, 3, args.square);
  launch_grads(1, 1, args.forward.band, args.band_w);
  launch_grads(2, args.forward.band, 1, args.band_h);
}

int64_t sums_of(const MixerArgs& forward) {
  return (kSquareSums + 2 * (int64_t{forward.band} + 1)) * forward.branch;
}

/// Adds the partials of num_ctas CTAs to the gradients, which lie apart.
void add_partials(const MixerBackwardArgs& args, int64_t num_ctas, CUstream_st* stream) {
  const int64_t branch = args.forward.branch;
  const int64_t stride = sums_of(args.forward);
  const float* partials = args.workspace;
  const auto add = [&](float* to, int64_t taps) {
    launch_sum_partials(to, partials, num_ctas, taps * branch, stride, stream);
    partials += taps * branch;
  };
  const int64_t band = args.forward.band;
  add(args.square.weight, 9);
  add(args.square.bias, 1);
  add(args.band_w.weight, band);
  add(args.band_w.bias, 1);
  add(args.band_h.weight, band);
  add(args.band_h.bias, 1);
}

template <int kVec, int kBand>
void launch_backward(const MixerBackwardArgs& args, const Cut& cut, CUstream_st* stream) {
  MixerArgs copied = args.forward;
  copied.x = args.dy;
  copied.out = args.dx;
  const auto num_ctas =
      static_cast<unsigned>(std::min(cut.num_bands, std::max(1, kMaxCtas / cut.num_chunks)));
  const dim3 grid(num_ctas, static_cast<unsigned>(cut.num_chunks));
  mixer_backward_kernel<kVec, kBand>
      <<<grid, kMixerThreads, 0, stream>>>(args, cut, has_wide_pixels(copied));
  COMET_CUDA(cudaGetLastError());
  add_partials(args, num_ctas, stream);
}

}  // namespace
}  // namespace mixer

size_t mixer_backward_workspace(const MixerArgs& forward) {
  return static_cast<size_t>(mixer::sums_of(forward) * mixer::kMaxCtas);
}

void launch_inception_mixer_backward(const MixerBackwardArgs& args, CUstream_st* stream) {
  if (mixer::is_empty(args.forward.sizes)) return;
  MixerArgs copied = args.forward;
  copied.out = args.dx;
  const bool is_even = mixer::has_pairs(copied) && reinterpret_cast<uintptr_t>(args.dy) % 4 == 0 &&
                       args.forward.branch > 0;
  const mixer::Cut cut = mixer::cut_of(args.forward, 2, mixer::kMaxCtas);
  if (is_even && args.forward.band == 11) {
    return mixer::launch_backward<2, 11>(args, cut, stream);
  }
  if (is_even && args.forward.band == 9) return mixer::launch_backward<2, 9>(args, cut, stream);
  mixer::launch_any(args, stream);
}

}  // namespace comet::ops_cuda
