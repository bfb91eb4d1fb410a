// How a mixer's launch is cut, on the host. Callers: mixer.cu, mixer_backward.cu.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "comet/ops/inception_mixer/cuda/tile.cuh"

namespace comet::ops_cuda::mixer {

/// The widest of 8, 4, 2 (1: none) channels that divides all of `multiples` and whose vectors are
/// aligned at all of `pointers`.
inline int piece_of(std::initializer_list<int> multiples,
                    std::initializer_list<const void*> pointers) {
  uint64_t bits = 8;
  for (const int m : multiples) bits |= static_cast<uint64_t>(m);
  for (const void* p : pointers) bits |= reinterpret_cast<uintptr_t>(p) / sizeof(uint16_t);
  for (const int piece : {8, 4, 2}) {
    if (bits % static_cast<uint64_t>(piece) == 0) return piece;
  }
  return 1;
}

/// What a tile holds of a row: 56 pixels of 12 channels, as every stage of InceptionNeXt-T.
constexpr int kTileElements = 56 * 12;

/// args.sizes is not empty, branch > 0 and even. Chunks are the smaller the fewer tiles there are.
inline Cut cut_of(const MixerArgs& args, std::initializer_list<const void*> pointers) {
  constexpr int kNumWanted = 2 * 125;  // nearly two on an SM, which run at once
  const auto pieces = [](int n, int size) { return (n + size - 1) / size; };
  const int num_kept = args.sizes.channels - 3 * args.branch;
  Cut cut;
  cut.kept_piece = piece_of({args.sizes.channels, num_kept}, pointers);
  cut.piece = piece_of({args.sizes.channels, num_kept, args.branch}, pointers);
  cut.bands_per_image = pieces(args.sizes.height, kOutputs);
  for (const int most : {48, 24, 16, 8}) {
    const int share = pieces(args.branch, pieces(args.branch, most));
    cut.chunk_channels = pieces(share, std::max(cut.piece, 2)) * std::max(cut.piece, 2);
    cut.num_chunks = pieces(args.branch, cut.chunk_channels);
    const int columns = std::max(1, kTileElements / cut.chunk_channels / kOutputs);  // in sevens
    cut.tiles_per_band = pieces(args.sizes.width, columns * kOutputs);
    cut.tile_columns = pieces(pieces(args.sizes.width, cut.tiles_per_band), kOutputs) * kOutputs;
    cut.num_tiles = args.sizes.num_images * cut.bands_per_image * cut.tiles_per_band;
    if (cut.num_tiles * cut.num_chunks >= kNumWanted) break;
  }
  cut.by_columns = {cut.tile_columns, 1.0F / static_cast<float>(cut.tile_columns)};
  return cut;
}

/// mixer.cu: out += the transposed mixer of x. The caller has seen that tiles take it.
void launch_transposed(const MixerArgs& args, CUstream_st* stream);

/// mixer_rows.cu: a launch of many tiles whose rows of whole pixels fit into shared memory. False:
/// nothing is launched, others must.
bool launch_rows(const MixerArgs& args, CUstream_st* stream);

/// mixer_slices.cu: the same for a band an SM and more of narrow images, whose slices fit into
/// shared memory.
bool launch_slices(const MixerArgs& args, CUstream_st* stream);

/// mixer_rows_backward.cu: all gradients at once, where the branches' rows fit into shared memory.
/// The same of false.
bool launch_rows_backward(const MixerBackwardArgs& args, CUstream_st* stream);

/// mixer_stream_backward.cu: the same for launches of a band an SM and more, where two bands of the
/// branches fit into shared memory.
bool launch_stream_backward(const MixerBackwardArgs& args, CUstream_st* stream);

/// mixer_images_backward.cu: the same for launches of an image an SM and more, of rows that fit.
bool launch_images_backward(const MixerBackwardArgs& args, CUstream_st* stream);

/// mixer_backward.cu: the sums of all taps and biases of the branches; adds num_rows rows of them
/// in args.workspace, of kMaxPartials at most, to the gradients.
int64_t sums_of(const MixerArgs& forward);
void add_partials(const MixerBackwardArgs& args, int64_t num_rows, const Arrivals& arrivals,
                  CUstream_st* stream);
constexpr int kMaxPartials = 396;  // three CTAs on each of 132 SMs

/// any_mixer.cu: any band, channels and alignment, slowly.
void launch_any_forward(const MixerArgs& args, CUstream_st* stream);
void launch_any_backward(const MixerBackwardArgs& args, CUstream_st* stream);

}  // namespace comet::ops_cuda::mixer
