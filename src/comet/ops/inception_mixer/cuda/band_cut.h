// How bands of 7 whole rows are cut into the kept channels and the branches' slices, and what lies
// around a band, on the host. Callers: mixer_slices.cu, mixer_stream_backward.cu, image_rows.cuh.
#pragma once

#include <algorithm>
#include <cstdint>

#include "comet/device/cuda/image_map.h"
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/ops/inception_mixer/cuda/tile.cuh"

namespace comet::ops_cuda::mixer {

constexpr int kPieceChannels = 8;  // 16 bytes

/// Rows around a band: one above and one below (for the square), half a kernel above and half below
/// (for k×1), each part [rows][width][halo_slice].
struct BandCut {
  int32_t bands_per_image = 0;
  int32_t num_tiles = 0;
  int32_t segments = 0;      // walkers of 1×k in a row
  int32_t first = 0;         // the slices' first channel: of a piece
  int32_t slice = 0;         // channels
  int32_t halo_slice = 0;    // channels of a pixel around a band
  int32_t band_h_first = 0;  // the first of those around k×1: of a piece
  int32_t band_h_skip = 0;   // channels there before the branch
  // Where the rows around lie in shared memory, in elements: those above,
  int32_t square_at = 0;
  int32_t square_below = 0;  // from there to the rows below,
  int32_t square_gap = 0;    // of which lie between them
  int32_t band_h_at = 0;
  int32_t band_h_below = 0;
  int32_t band_h_gap = 0;

  [[nodiscard]] int around_elements() const { return 2 * (square_below + band_h_below); }
};

/// Elements in whole 128 bytes of shared memory, as tensor copies want them.
inline int whole_box(int elements) { return (elements + 63) / 64 * 64; }

inline int slice_elements(const ImageSizes& sizes, const BandCut& cut) {
  return kOutputs * sizes.width * cut.slice;
}

/// All but where the rows around lie.
inline BandCut band_cut_of(const MixerArgs& args) {
  const ImageSizes& sizes = args.sizes;
  const int num_kept = sizes.channels - 3 * args.branch;
  const auto down = [](int channels) { return channels / kPieceChannels * kPieceChannels; };
  BandCut cut;
  cut.bands_per_image = (sizes.height + kOutputs - 1) / kOutputs;
  cut.num_tiles = sizes.num_images * cut.bands_per_image;
  cut.segments = (sizes.width + kOutputs - 1) / kOutputs;
  cut.first = down(num_kept);
  cut.slice = sizes.channels - cut.first;
  cut.band_h_first = down(sizes.channels - args.branch);
  cut.band_h_skip = sizes.channels - args.branch - cut.band_h_first;
  cut.halo_slice =
      down(std::max(num_kept - cut.first, cut.band_h_skip) + args.branch + kPieceChannels - 1);
  return cut;
}

/// The rows around lie from `at` on.
inline void place_around(BandCut& cut, const MixerArgs& args, int at) {
  const int row = args.sizes.width * cut.halo_slice;
  const int half = args.band / 2 * row;
  cut.square_at = at;
  cut.square_below = whole_box(row);
  cut.square_gap = cut.square_below - row;
  cut.band_h_at = at + 2 * cut.square_below;
  cut.band_h_below = whole_box(half);
  cut.band_h_gap = cut.band_h_below - half;
}

/// A band for three SMs of four at least.
inline bool fills_card(const BandCut& cut) {
  return 4 * int64_t{cut.num_tiles} >= 3 * device_attribute(cudaDevAttrMultiProcessorCount);
}

inline CUtensorMap box_map_of(const ImageSizes& sizes, const void* data, int box_channels,
                              int box_rows) {
  return make_image_map({.data = data,
                         .num_images = sizes.num_images,
                         .height = sizes.height,
                         .width = sizes.width,
                         .channels = sizes.channels,
                         .box_channels = box_channels,
                         .box_rows = box_rows});
}

}  // namespace comet::ops_cuda::mixer
