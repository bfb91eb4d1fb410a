// out = inception_mixer(x) on BF16 NHWC images, FP32 sums (bias first, taps in order).
// x, out [images, height, width, channels]; weights FP32 [taps, branch].
// Grid: x → bands of 7 rows of an image; y → chunks of the branches' channels. 256 threads: 85 per
// branch, all copy the kept channels (walkers.cuh). No shared memory: a walker's window lies in
// registers, neighbours' overlap comes from L1.
// Floor: 2 · bytes of x at copy rate: stage 1 of InceptionNeXt-T at 128 images 154 MB, 36 µs at 4.3
// TB/s; 10.3 FMA for every one of 3/8 of the outputs, 5 µs at 30 TFMA/s.
#include <cuda_runtime_api.h>

#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/inception_mixer/cuda/cut.h"
#include "comet/ops/inception_mixer/cuda/walkers.cuh"

namespace comet::ops_cuda {
namespace mixer {
namespace {

template <int kVec>
__device__ __forceinline__ void begin_sums(float (&sums)[kOutputs][kVec], const float* bias) {
  float b[kVec];
#pragma unroll
  for (int i = 0; i < kVec; ++i) b[i] = bias == nullptr ? 0.0F : __ldg(bias + i);
#pragma unroll
  for (int r = 0; r < kOutputs; ++r) {
#pragma unroll
    for (int i = 0; i < kVec; ++i) sums[r][i] = b[i];
  }
}

/// kBand 0: args.band, slowly. kFlip: out += the transposed mixer, for gradients.
template <int kVec, int kBand, bool kFlip>
__global__ void __launch_bounds__(kMixerThreads, 2)
    mixer_kernel(MixerArgs args, Cut cut, bool is_wide) {
  const auto* x = static_cast<const uint16_t*>(args.x);
  auto* out = static_cast<uint16_t*>(args.out);
  const BandPlace place = band_place(args.sizes, cut, static_cast<int>(blockIdx.x));
  const Role role = role_of_thread(cut);
  const int num_kept = args.sizes.channels - 3 * args.branch;
  if (role.is_active) {
    const int within = role.vec * kVec;
    const int channel = num_kept + static_cast<int>(role.branch) * args.branch + within;
    const int num = num_walkers(args.sizes, place, role.branch);
    const float* weight = weight_of(args, role.branch) + within;
    const float* bias = kFlip ? nullptr : bias_of(args, role.branch) + within;
    for (int walker = role.slot; walker < num; walker += role.num_slots) {
      float sums[kOutputs][kVec];
      begin_sums(sums, bias);
      if (role.branch == kSquare) {
        const Column column = column_of(args.sizes, place, walker);
        convolve_column<kVec, kFlip>(sums, x + channel, args.sizes, column, weight, args.branch);
        store_column<kFlip>(out + channel, args.sizes, column, sums);
        continue;
      }
      const Line line = line_of(args.sizes, place, role.branch, walker);
      if constexpr (kBand == 0) {
        convolve_any_line<kVec, kFlip>(sums, x + channel, line, weight, args.branch, args.band);
      } else {
        convolve_line<kVec, kBand, kFlip>(sums, x + channel, line, weight, args.branch);
      }
      store_line<kFlip>(out + channel, line, sums);
    }
  }
  copy_kept<kFlip, kVec>(out, x, args.sizes, place, num_kept, is_wide);
}

template <int kVec, int kBand, bool kFlip>
void launch(const MixerArgs& args, CUstream_st* stream) {
  const Cut cut = cut_of(args, kVec, 264);
  const dim3 grid(static_cast<unsigned>(cut.num_bands), static_cast<unsigned>(cut.num_chunks));
  mixer_kernel<kVec, kBand, kFlip>
      <<<grid, kMixerThreads, 0, stream>>>(args, cut, has_wide_pixels(args));
  COMET_CUDA(cudaGetLastError());
}

}  // namespace

void launch_transposed(const MixerArgs& args, CUstream_st* stream) {
  launch<1, 0, true>(args, stream);
}

}  // namespace mixer

void launch_inception_mixer(const MixerArgs& args, CUstream_st* stream) {
  if (mixer::is_empty(args.sizes)) return;
  const bool pairs = mixer::has_pairs(args);
  if (args.band == 11 && pairs) return mixer::launch<2, 11, false>(args, stream);
  if (args.band == 9 && pairs) return mixer::launch<2, 9, false>(args, stream);
  mixer::launch<1, 0, false>(args, stream);
}

}  // namespace comet::ops_cuda
