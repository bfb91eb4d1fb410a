// How a mixer's launch is cut, on the host. Callers: mixer.cu, mixer_backward.cu.
#pragma once

#include <algorithm>

#include "comet/ops/inception_mixer/cuda/walkers.cuh"

namespace comet::ops_cuda::mixer {

inline bool is_empty(const ImageSizes& sizes) {
  return sizes.num_images == 0 || sizes.height == 0 || sizes.width == 0 || sizes.channels == 0;
}

/// Channels that a thread reads at once: what begins and size of the branches allow.
inline int vector_size(const MixerArgs& args) {
  for (const int vec : {4, 2}) {
    const auto at = reinterpret_cast<uintptr_t>(args.x) | reinterpret_cast<uintptr_t>(args.out);
    if (args.branch % vec == 0 && args.sizes.channels % vec == 0 &&
        at % static_cast<unsigned>(2 * vec) == 0) {
      return vec;
    }
  }
  return 1;
}

/// Whether pixels begin 16-byte aligned.
inline bool has_wide_pixels(const MixerArgs& args) {
  const auto at = reinterpret_cast<uintptr_t>(args.x) | reinterpret_cast<uintptr_t>(args.out);
  return at % 16 == 0 && args.sizes.channels % 8 == 0;
}

/// Chunks of channels, so that there are num_wanted CTAs where each keeps 8 vectors or more.
inline Cut cut_of(const MixerArgs& args, int vec, int num_wanted) {
  Cut cut;
  cut.bands_per_image = (args.sizes.height + kOutputs - 1) / kOutputs;
  cut.num_bands = args.sizes.num_images * cut.bands_per_image;
  cut.vecs = std::max(1, args.branch / vec);
  cut.chunk_vecs = std::min(cut.vecs, kBranchThreads);
  const auto num_chunks = [&] { return (cut.vecs + cut.chunk_vecs - 1) / cut.chunk_vecs; };
  while (cut.num_bands * num_chunks() * 3 < num_wanted * 2 && cut.chunk_vecs >= 16) {
    cut.chunk_vecs = (cut.chunk_vecs + 1) / 2;
  }
  cut.num_chunks = num_chunks();
  return cut;
}

/// mixer.cu: out = the transposed mixer of x, any size, slowly.
void launch_transposed(const MixerArgs& args, CUstream_st* stream);

}  // namespace comet::ops_cuda::mixer
