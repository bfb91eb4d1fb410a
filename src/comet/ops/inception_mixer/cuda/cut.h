// How a mixer's launch is cut, on the host. Callers: mixer.cu, mixer_backward.cu.
#pragma once

#include <algorithm>

#include "comet/ops/inception_mixer/cuda/walkers.cuh"

namespace comet::ops_cuda::mixer {

inline bool is_empty(const ImageSizes& sizes) {
  return sizes.num_images == 0 || sizes.height == 0 || sizes.width == 0 || sizes.channels == 0;
}

/// Whether threads may read two channels at once. Four would take more registers than there are.
inline bool has_pairs(const MixerArgs& args) {
  const auto at = reinterpret_cast<uintptr_t>(args.x) | reinterpret_cast<uintptr_t>(args.out);
  return args.branch % 2 == 0 && args.sizes.channels % 2 == 0 && at % 4 == 0;
}

/// Whether pixels begin 16-byte aligned.
inline bool has_wide_pixels(const MixerArgs& args) {
  const auto at = reinterpret_cast<uintptr_t>(args.x) | reinterpret_cast<uintptr_t>(args.out);
  return at % 16 == 0 && args.sizes.channels % 8 == 0;
}

/// More vectors in a chunk leave more of a branch's threads without one.
constexpr int kMaxChunkVecs = 16;

/// Chunks of channels, the smaller the fewer bands there are for num_wanted CTAs.
inline Cut cut_of(const MixerArgs& args, int vec, int num_wanted) {
  Cut cut;
  cut.bands_per_image = (args.sizes.height + kOutputs - 1) / kOutputs;
  cut.num_bands = args.sizes.num_images * cut.bands_per_image;
  cut.vecs = args.branch / vec;
  const auto pieces = [](int n, int size) { return std::max(1, (n + size - 1) / size); };
  cut.chunk_vecs = std::max(1, pieces(cut.vecs, pieces(cut.vecs, kMaxChunkVecs)));
  while (cut.num_bands * pieces(cut.vecs, cut.chunk_vecs) < num_wanted && cut.chunk_vecs >= 8) {
    cut.chunk_vecs = (cut.chunk_vecs + 1) / 2;
  }
  cut.num_chunks = pieces(cut.vecs, cut.chunk_vecs);
  return cut;
}

/// mixer.cu: out += the transposed mixer of x, any size, slowly.
void launch_transposed(const MixerArgs& args, CUstream_st* stream);

}  // namespace comet::ops_cuda::mixer
