// All gradients of inception_mixer for launches of a band of 7 rows or more an SM (sm_90): what
// mixer_rows_backward.cu says of walks, sums and partials, by three sides of a CTA that are on
// their way all the time. A copier has boxes of images (the branches' slices of a band of dy, of
// the rows around it, of x and dx) copied into one set of shared memory while walkers walk over the
// other, and dx copied back; keepers add dy to dx in the channels before the slices, from memory to
// memory, kBatch pieces of 16 bytes of a thread at once. Grid: one CTA on an SM, each with
// neighbouring bands. 12 warps walk, four a branch, 3 keep, a lane of one more copies: 128
// registers a thread. Order: keepers begin when the walkers' first band is there; then they are one
// band ahead of the walkers at most, and never behind, so that sectors that both sides touch are
// still in L2. Slices begin at the 16-byte piece that the first branch begins in; the kept channels
// of that piece are the walkers'. What is outside of an image comes as zeros. Shared memory: two
// sets of dy of a band [7][width][slice] | dy around it: a row above, one below (for the square),
// half a kernel above, half below (for k×1) [rows][width][branch, in pieces] | x | dx, which is
// added to in place; then a barrier a set. 231 KB for stage 1 of InceptionNeXt-T, 203 KB for the
// others. Floor: as mixer_rows_backward.cu's.
#include <algorithm>

#include "comet/device/cuda/image_map.h"
#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/image_copy.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/ops/cuda/overlapped_launch.cuh"
#include "comet/ops/inception_mixer/cuda/cut.h"
#include "comet/ops/inception_mixer/cuda/dw_sums.cuh"
#include "comet/ops/inception_mixer/cuda/kept.cuh"
#include "comet/ops/inception_mixer/cuda/rows.cuh"
#include "comet/ops/inception_mixer/cuda/taps.cuh"

namespace comet::ops_cuda::mixer {
namespace {

constexpr int kWalkBranchThreads = 128;
constexpr int kWalkThreads = 3 * kWalkBranchThreads;
constexpr int kKeepThreads = 96;
constexpr int kCopyThreads = 32;
constexpr int kStreamThreads = kWalkThreads + kKeepThreads + kCopyThreads;
constexpr int kPieceChannels = 8;  // 16 bytes

// Barriers, and how many threads take part.
constexpr uint32_t kWalkers = 1;
constexpr uint32_t kBegun = 2;  // and 3: walkers have begun an even, an odd band; keepers wait
constexpr uint32_t kKept = 4;  // and 5: an even, an odd band's kept channels are done; walkers wait
constexpr uint32_t kWalked = 6;  // and 7: walkers are through with an even, an odd band; the copier
constexpr uint32_t kWalkAndKeep = kWalkThreads + kKeepThreads;
constexpr uint32_t kWalkAndCopy = kWalkThreads + kCopyThreads;

struct StreamCut {
  int32_t bands_per_image = 0;
  int32_t num_tiles = 0;
  int32_t segments = 0;      // walkers of 1×k in a row
  int32_t first = 0;         // the slices' first channel: of a piece
  int32_t slice = 0;         // channels
  int32_t halo_slice = 0;    // channels of a pixel around a band
  int32_t band_h_first = 0;  // the first of those around k×1: of a piece
  int32_t band_h_skip = 0;   // channels there before the branch
  int32_t square_at = 0;     // where the parts of a set lie, in elements: the rows above,
  int32_t square_below = 0;  // from there to the rows below,
  int32_t square_gap = 0;    // of which lie between them
  int32_t band_h_at = 0;
  int32_t band_h_below = 0;
  int32_t band_h_gap = 0;
  int32_t x_at = 0;
  int32_t dx_at = 0;
  int32_t set_elements = 0;
  int32_t set_bytes = 0;  // that copies bring
  Divisor by_kept;        // pieces of a pixel before its slice
};

/// Boxes of a band's slices, and of the rows around it.
struct StreamMaps {
  CUtensorMap dy;
  CUtensorMap dy_row;
  CUtensorMap dy_half;
  CUtensorMap x;
  CUtensorMap dx;
};

/// A CTA's bands.
struct Span {
  int begin = 0;
  int end = 0;
};

__device__ __forceinline__ Span span_of(const StreamCut& cut) {
  const auto at = [&](unsigned cta) {
    return static_cast<int>(static_cast<int64_t>(cut.num_tiles) * cta / gridDim.x);
  };
  return {at(blockIdx.x), at(blockIdx.x + 1)};
}

/// Element of a band's first pixel.
__device__ __forceinline__ int64_t at_band(const ImageSizes& sizes, const Band& band) {
  return band.image_at + static_cast<int64_t>(band.first_row) * sizes.width * sizes.channels;
}

// ---- Keepers

/// dx += dy in the pieces before the slices of a band; dx, dy: its first pixel. kBatch pieces of a
/// thread are read before the first is written.
__device__ __forceinline__ void keep_band(uint16_t* dx, const uint16_t* dy, int channels,
                                          int num_pieces, const Divisor& by_kept) {
  constexpr int kBatch = 8;
  const auto thread = static_cast<int>(threadIdx.x) - kWalkThreads;
#pragma unroll 1
  for (int first = thread; first < num_pieces; first += kBatch * kKeepThreads) {
    Bits<kPieceChannels> added[kBatch];
    Bits<kPieceChannels> old[kBatch];
    int at[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {  // the last piece again where there is none
      const int e = min(first + i * kKeepThreads, num_pieces - 1);
      const int pixel = quotient(e, by_kept);
      at[i] = pixel * channels + (e - pixel * by_kept.divisor) * kPieceChannels;
      added[i] = load_bits<kPieceChannels>(dy + at[i]);
      old[i] = load_bits<kPieceChannels>(dx + at[i]);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i * kKeepThreads >= num_pieces) continue;
#pragma unroll
      for (int j = 0; j < kPieceChannels / 2; ++j) {
        old[i].v[j] = add_pair(added[i].v[j], old[i].v[j]);
      }
      store_bits<kPieceChannels>(dx + at[i], old[i]);
    }
  }
}

__device__ __forceinline__ void keep_span(const MixerBackwardArgs& args, const StreamCut& cut,
                                          const Span& span) {
  const ImageSizes& sizes = args.forward.sizes;
#pragma unroll 1
  for (int tile = span.begin; tile < span.end; ++tile) {
    const int i = tile - span.begin;
    if (i != 1) {
      const auto begun = static_cast<uint32_t>(max(i - 1, 0));
      prims::named_barrier_sync(kBegun + (begun & 1U), kWalkAndKeep);
    }
    const Band band = band_of(sizes, cut.bands_per_image, tile);
    const int64_t at = at_band(sizes, band);
    keep_band(static_cast<uint16_t*>(args.dx) + at, static_cast<const uint16_t*>(args.dy) + at,
              sizes.channels, band.rows * sizes.width * cut.by_kept.divisor, cut.by_kept);
    if (tile + 1 < span.end) {
      prims::named_barrier_arrive(kKept + (static_cast<uint32_t>(i) & 1U), kWalkAndKeep);
    }
  }
}

// ---- Copier: one lane

struct Copier {
  const StreamMaps* maps = nullptr;
  uint16_t* sets = nullptr;
  uint64_t* full = nullptr;  // a barrier a set
};

/// A box's place: an image's row, its first channel, which begins a piece.
__device__ __forceinline__ prims::BoxAt4d box_at(int channel, int row, int image) {
  return {channel / 2, 0, row, image};
}

template <int kBand>
__device__ __forceinline__ void load_band(const Copier& copier, const StreamCut& cut, int tile,
                                          int set_idx) {
  constexpr int kHalf = kBand / 2;
  const int image = tile / cut.bands_per_image;
  const int row = (tile - image * cut.bands_per_image) * kOutputs;
  uint16_t* set = copier.sets + set_idx * cut.set_elements;
  uint64_t* full = copier.full + set_idx;
  const StreamMaps& maps = *copier.maps;
  prims::mbarrier_arrive_expect_tx(full, static_cast<uint32_t>(cut.set_bytes));
  prims::tensor_load_4d(set, &maps.dy, box_at(cut.first, row, image), full);
  prims::tensor_load_4d(set + cut.square_at, &maps.dy_row, box_at(cut.first, row - 1, image), full);
  prims::tensor_load_4d(set + cut.square_at + cut.square_below, &maps.dy_row,
                        box_at(cut.first, row + kOutputs, image), full);
  prims::tensor_load_4d(set + cut.band_h_at, &maps.dy_half,
                        box_at(cut.band_h_first, row - kHalf, image), full);
  prims::tensor_load_4d(set + cut.band_h_at + cut.band_h_below, &maps.dy_half,
                        box_at(cut.band_h_first, row + kOutputs, image), full);
  prims::tensor_load_4d(set + cut.x_at, &maps.x, box_at(cut.first, row, image), full);
  prims::tensor_load_4d(set + cut.dx_at, &maps.dx, box_at(cut.first, row, image), full);
}

/// The whole warp.
template <int kBand>
__device__ __forceinline__ void copy_span(const Copier& copier, const StreamCut& cut,
                                          const Span& span) {
  if (prims::elect_one()) {
    for (int i = 0; i < 2 && span.begin + i < span.end; ++i) {
      load_band<kBand>(copier, cut, span.begin + i, i);
    }
  }
  __syncwarp();
#pragma unroll 1
  for (int tile = span.begin; tile < span.end; ++tile) {
    const int set_idx = (tile - span.begin) & 1;
    prims::named_barrier_sync(kWalked + static_cast<uint32_t>(set_idx), kWalkAndCopy);
    if (prims::elect_one()) {
      const int image = tile / cut.bands_per_image;
      const int row = (tile - image * cut.bands_per_image) * kOutputs;
      prims::tensor_store_4d(&copier.maps->dx, copier.sets + set_idx * cut.set_elements + cut.dx_at,
                             box_at(cut.first, row, image));
      prims::bulk_commit();
      prims::bulk_wait_read<0>();
      if (tile + 2 < span.end) {
        load_band<kBand>(copier, cut, tile + 2, set_idx);
      }
    }
    __syncwarp();
  }
}

// ---- Walkers

/// dx += dy in the kept channels that the slices begin with.
__device__ __forceinline__ void keep_in_slices(uint16_t* dx, const uint16_t* dy, int num_kept,
                                               int slice, int num_pixels) {
  for (int channel = 0; channel < num_kept; channel += 2) {
    for (auto i = static_cast<int>(threadIdx.x); i < num_pixels; i += kWalkThreads) {
      const int at = i * slice + channel;
      auto* to = reinterpret_cast<uint32_t*>(dx + at);
      *to = add_pair(word_at(dy + at), *to);
    }
  }
}

/// A thread's channels of a band.
__device__ __forceinline__ View view_of(uint16_t* set, const ImageSizes& sizes, int branch,
                                        const StreamCut& cut, const Role& role) {
  const int num_kept = cut.slice - 3 * branch;
  const int own = num_kept + static_cast<int>(role.branch) * branch + role.within;
  const bool is_band_h = role.branch == kBandH;
  const int halo = is_band_h ? cut.band_h_at + cut.band_h_skip : cut.square_at + num_kept;
  View view;
  view.dy = {set + own, set + halo + role.within, sizes.width,
             cut.slice, cut.halo_slice,           is_band_h ? cut.band_h_gap : cut.square_gap};
  view.x = set + cut.x_at + own;
  view.dx = set + cut.dx_at + own;
  view.segments = cut.segments;
  return view;
}

template <int kBand>
__device__ __forceinline__ void walk_span(const MixerBackwardArgs& args, const StreamCut& cut,
                                          const Span& span, uint16_t* sets, uint64_t* full) {
  const ImageSizes& sizes = args.forward.sizes;
  const int branch = args.forward.branch;
  const Role role = role_of_thread<kWalkBranchThreads>({0, branch}, threadIdx.x);
  Taps<kBand> taps = {};
  if (role.is_active) {
    taps = load_taps<kBand, true>(weights_of(args.forward, role.branch),
                                  role.branch == kSquare ? 9 : kBand, branch, role.within);
  }
  Sums<kBand> sums = {};
#pragma unroll 1
  for (int tile = span.begin; tile < span.end; ++tile) {
    const auto i = static_cast<uint32_t>(tile - span.begin);
    uint16_t* set = sets + (i & 1U) * cut.set_elements;
    prims::mbarrier_wait(full + (i & 1U), (i >> 1) & 1U);
    if (i > 0) prims::named_barrier_sync(kKept + ((i - 1) & 1U), kWalkAndKeep);
    if (i == 0 || tile + 1 < span.end) {
      prims::named_barrier_arrive(kBegun + (i & 1U), kWalkAndKeep);
    }
    const int rows = band_of(sizes, cut.bands_per_image, tile).rows;
    if (role.is_active) {
      View view = view_of(set, sizes, branch, cut, role);
      view.rows = rows;
      walk_band(sums, taps, view, role);
    }
    keep_in_slices(set + cut.dx_at, set, cut.slice - 3 * branch, cut.slice, rows * sizes.width);
    prims::fence_proxy_async();
    prims::named_barrier_arrive(kWalked + (i & 1U), kWalkAndCopy);
  }
  const int64_t num_sums = kSquareSums + 2 * (kBand + 1);
  write_partials<kBand, kWalkBranchThreads>(
      sums, role, {branch / 2, branch, role.within}, reinterpret_cast<float*>(sets),
      args.workspace + blockIdx.x * num_sums * branch,
      [] { prims::named_barrier_sync(kWalkers, kWalkThreads); });
}

template <int kBand>
__global__ void __launch_bounds__(kStreamThreads, 1)
    stream_backward_kernel(MixerBackwardArgs args, StreamCut cut,
                           const __grid_constant__ StreamMaps maps) {
  extern __shared__ __align__(128) uint16_t mixer_sets[];
  const Span span = span_of(cut);
  auto* full = reinterpret_cast<uint64_t*>(mixer_sets + 2 * cut.set_elements);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  constexpr int kCopyWarp = (kWalkThreads + kKeepThreads) / 32;
  if (warp == kCopyWarp && prims::elect_one()) {
    prims::mbarrier_init(full, 1);
    prims::mbarrier_init(full + 1, 1);
    prims::mbarrier_init_fence();
  }
  __syncthreads();
  prims::wait_for_previous_kernel();
  prims::allow_next_kernel();
  if (warp < kWalkThreads / 32) {
    walk_span<kBand>(args, cut, span, mixer_sets, full);
  } else if (warp < kCopyWarp) {
    keep_span(args, cut, span);
  } else {
    copy_span<kBand>({&maps, mixer_sets, full}, cut, span);
  }
}

int64_t sums_bytes_of(int band) {
  return int64_t{band + 1} * 2 * kWalkThreads * int64_t{sizeof(float)};
}

StreamCut stream_cut_of(const MixerArgs& forward) {
  const ImageSizes& sizes = forward.sizes;
  const int num_kept = sizes.channels - 3 * forward.branch;
  const int half = forward.band / 2;
  const auto pieces = [](int channels) {
    return (channels + kPieceChannels - 1) / kPieceChannels * kPieceChannels;
  };
  const auto whole = [](int elements) { return (elements + 63) / 64 * 64; };  // 128 bytes
  StreamCut cut;
  cut.bands_per_image = (sizes.height + kOutputs - 1) / kOutputs;
  cut.num_tiles = sizes.num_images * cut.bands_per_image;
  cut.segments = (sizes.width + kOutputs - 1) / kOutputs;
  cut.first = num_kept / kPieceChannels * kPieceChannels;
  cut.slice = sizes.channels - cut.first;
  cut.band_h_first = (sizes.channels - forward.branch) / kPieceChannels * kPieceChannels;
  cut.band_h_skip = sizes.channels - forward.branch - cut.band_h_first;
  cut.halo_slice = pieces(std::max(num_kept - cut.first, cut.band_h_skip) + forward.branch);
  const int band = kOutputs * sizes.width * cut.slice;
  const int row = sizes.width * cut.halo_slice;
  cut.square_at = whole(band);
  cut.square_below = whole(row);
  cut.square_gap = cut.square_below - row;
  cut.band_h_at = cut.square_at + 2 * cut.square_below;
  cut.band_h_below = whole(half * row);
  cut.band_h_gap = cut.band_h_below - half * row;
  // The sums of dw go where the first set's dy is; dx behind it may still be read then.
  const int sums = static_cast<int>(sums_bytes_of(forward.band)) / 2;
  cut.x_at = std::max(cut.band_h_at + 2 * cut.band_h_below, whole(sums));
  cut.dx_at = cut.x_at + whole(band);
  cut.set_elements = cut.dx_at + whole(band);
  cut.set_bytes = (3 * band + 2 * (half + 1) * row) * static_cast<int>(sizeof(uint16_t));
  const int kept_pieces = cut.first / kPieceChannels;
  cut.by_kept = {kept_pieces, 1.0F / static_cast<float>(kept_pieces)};
  return cut;
}

int64_t shared_bytes_of(const StreamCut& cut) {
  return 2 * (int64_t{cut.set_elements} * int64_t{sizeof(uint16_t)} + int64_t{sizeof(uint64_t)});
}

StreamMaps maps_of(const MixerBackwardArgs& args, const StreamCut& cut) {
  const ImageSizes& sizes = args.forward.sizes;
  const auto map = [&](const void* data, int box_channels, int box_rows, bool is_read_whole) {
    return make_image_map({.data = data,
                           .num_images = sizes.num_images,
                           .height = sizes.height,
                           .width = sizes.width,
                           .channels = sizes.channels,
                           .box_channels = box_channels,
                           .box_rows = box_rows,
                           .is_read_whole = is_read_whole});
  };
  return {map(args.dy, cut.slice, kOutputs, true), map(args.dy, cut.halo_slice, 1, true),
          map(args.dy, cut.halo_slice, args.forward.band / 2, true),
          map(args.forward.x, cut.slice, kOutputs, false), map(args.dx, cut.slice, kOutputs, true)};
}

template <int kBand>
void launch_band(const MixerBackwardArgs& args, const StreamCut& cut, int num_ctas,
                 CUstream_st* stream) {
  const auto kernel = stream_backward_kernel<kBand>;
  const auto shared_bytes = static_cast<int>(shared_bytes_of(cut));
  COMET_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  launch_overlapped({dim3(static_cast<unsigned>(num_ctas)), kStreamThreads, shared_bytes, stream},
                    kernel, args, cut, maps_of(args, cut));
}

/// Boxes can be described (image_map.h), and 32 bits count what lies in a band.
bool has_boxes(const MixerBackwardArgs& args) {
  const ImageSizes& sizes = args.forward.sizes;
  const int num_kept = sizes.channels - 3 * args.forward.branch;
  if (piece_of({sizes.channels}, {args.forward.x, args.dy, args.dx}) < kPieceChannels) return false;
  constexpr int kMaxBox = 256;  // columns, pairs of channels
  return num_kept >= kPieceChannels && sizes.width <= kMaxBox && sizes.channels <= 16 * kMaxBox &&
         sizes.channels - num_kept / kPieceChannels * kPieceChannels <= 2 * kMaxBox;
}

}  // namespace

bool launch_stream_backward(const MixerBackwardArgs& args, CUstream_st* stream) {
  if (device_attribute(cudaDevAttrComputeCapabilityMajor) < 9) return false;
  if (args.forward.branch > 2 * kWalkBranchThreads || !has_boxes(args)) return false;
  const StreamCut cut = stream_cut_of(args.forward);
  const int num_sms = device_attribute(cudaDevAttrMultiProcessorCount);
  if (4 * int64_t{cut.num_tiles} < 3 * int64_t{num_sms}) return false;
  const int most_bytes = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  if (shared_bytes_of(cut) > most_bytes) return false;
  const int num_ctas = std::min({cut.num_tiles, num_sms, kMaxPartials});
  if (args.forward.band == 11) {
    launch_band<11>(args, cut, num_ctas, stream);
  } else {
    launch_band<9>(args, cut, num_ctas, stream);
  }
  add_partials(args, num_ctas, stream);
  return true;
}

}  // namespace comet::ops_cuda::mixer
