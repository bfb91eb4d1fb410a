// All gradients of inception_mixer for launches of a band of 7 rows or more an SM (sm_90): what
// mixer_rows_backward.cu says of walks, sums and partials, by two sides of a CTA that are on their
// way all the time. Walkers copy the branches' slices of the next band into one set of shared
// memory while they walk over the other; keepers add dy to dx in the channels before them, straight
// from memory to memory, eight pieces of 16 bytes of a thread at once.
// Grid: one CTA on an SM, each with neighbouring bands. 12 warps walk, four a branch, 4 keep: 128
// registers a thread. Order: keepers begin when the walkers' first band is there; then they are one
// band ahead of the walkers at most, and never behind, so that sectors that both sides touch are
// still in L2. Slices begin at the 16-byte piece that the first branch begins in: every copy has 16
// bytes, those of the rows around a band excepted. The kept channels of that piece are the
// walkers'. Shared memory: two sets of dy of a band [7][width][slice] | dy around it, [2 of the
// square, band − 1 of k×1][width][branch] | x | dx, which is added to in place. 220 KB for stage 1
// of InceptionNeXt-T, 202 KB for the others. Floor: as mixer_rows_backward.cu's.
#include <algorithm>

#include "comet/device/cuda/prims/control.cuh"
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
constexpr int kKeepThreads = 128;
constexpr int kStreamThreads = kWalkThreads + kKeepThreads;
constexpr int kPieceChannels = 8;  // 16 bytes

constexpr uint32_t kWalkers = 1;  // barriers
constexpr uint32_t kBegun = 2;    // and 3: walkers have begun an even, an odd band
constexpr uint32_t kKept = 4;     // and 5: an even, an odd band's kept channels are done

struct StreamCut {
  int32_t bands_per_image = 0;
  int32_t num_tiles = 0;
  int32_t halo_piece = 0;  // channels that a copy of the rows around takes: 2, 4 or 8
  int32_t segments = 0;    // walkers of 1×k in a row
  int32_t first = 0;       // the slices' first channel: of a piece
  int32_t slice = 0;       // channels
  int32_t halo_at = 0;     // where the parts of a set lie, in elements
  int32_t x_at = 0;
  int32_t dx_at = 0;
  int32_t set_elements = 0;
  Divisor by_width;
  Divisor by_slice;  // pieces of a pixel's slice
  Divisor by_kept;   // pieces before it
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
      prims::named_barrier_sync(kBegun + (begun & 1U), kStreamThreads);
    }
    const Band band = band_of(sizes, cut.bands_per_image, tile);
    const int64_t at = at_band(sizes, band);
    keep_band(static_cast<uint16_t*>(args.dx) + at, static_cast<const uint16_t*>(args.dy) + at,
              sizes.channels, band.rows * sizes.width * cut.by_kept.divisor, cut.by_kept);
    if (tile + 1 < span.end) {
      prims::named_barrier_arrive(kKept + (static_cast<uint32_t>(i) & 1U), kStreamThreads);
    }
  }
}

// ---- Walkers

__device__ __forceinline__ void sync_walkers() {
  prims::named_barrier_sync(kWalkers, kWalkThreads);
}

/// Calls use(in shared memory, in memory) for this thread's pieces of the slices of pixels: places
/// in elements from the band's first.
template <typename Use>
__device__ __forceinline__ void for_slices(const StreamCut& cut, int channels, int num_pixels,
                                           const Use& use) {
  const int num_pieces = num_pixels * cut.by_slice.divisor;
#pragma unroll 2
  for (auto e = static_cast<int>(prims::thread_idx_anew()); e < num_pieces; e += kWalkThreads) {
    const int pixel = quotient(e, cut.by_slice);
    const int piece = e - pixel * cut.by_slice.divisor;
    use(e * kPieceChannels, pixel * channels + cut.first + piece * kPieceChannels);
  }
}

/// Begins to copy a band into a set; zeros in dy and x behind the last row of an image.
template <int kBand>
__device__ __forceinline__ void stage_band(uint16_t* set, const MixerBackwardArgs& args,
                                           const StreamCut& cut, const Band& band) {
  const ImageSizes& sizes = args.forward.sizes;
  const int branch = args.forward.branch;
  const int64_t at = at_band(sizes, band);
  const uint16_t* dy = static_cast<const uint16_t*>(args.dy) + at;
  const uint16_t* x = static_cast<const uint16_t*>(args.forward.x) + at;
  const uint16_t* dx = static_cast<const uint16_t*>(args.dx) + at;
  const int num_pixels = band.rows * sizes.width;
  for_slices(cut, sizes.channels, num_pixels, [&](int shared, int from) {
    copy_existing<kPieceChannels>(set + shared, dy + from);
    copy_existing<kPieceChannels>(set + cut.x_at + shared, x + from);
    copy_existing<kPieceChannels>(set + cut.dx_at + shared, dx + from);
  });
  for_piece(cut.halo_piece, [&](auto piece) {
    stage_halos<kBand, piece.value, kWalkThreads>(
        set + cut.halo_at,
        static_cast<const uint16_t*>(args.dy) + band.image_at + sizes.channels - 3 * branch, sizes,
        cut.by_width, band.first_row, branch, branch);
  });
  prims::cp_async_commit();
  const int end = kOutputs * sizes.width * cut.slice;
  for (int i = num_pixels * cut.slice + static_cast<int>(threadIdx.x) * kPieceChannels; i < end;
       i += kWalkThreads * kPieceChannels) {
    store_bits<kPieceChannels>(set + i, Bits<kPieceChannels>{});
    store_bits<kPieceChannels>(set + cut.x_at + i, Bits<kPieceChannels>{});
  }
}

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

template <int kBand>
__device__ __forceinline__ void walk_span(const MixerBackwardArgs& args, const StreamCut& cut,
                                          const Span& span, uint16_t* sets) {
  const ImageSizes& sizes = args.forward.sizes;
  const int branch = args.forward.branch;
  const int kept_in_slices = cut.slice - 3 * branch;
  const auto band_at = [&](int tile) { return band_of(sizes, cut.bands_per_image, tile); };
  const Role role = role_of_thread<kWalkBranchThreads>({0, branch}, threadIdx.x);
  stage_band<kBand>(sets, args, cut, band_at(span.begin));
  Taps<kBand> taps = {};
  if (role.is_active) {
    taps = load_taps<kBand, true>(weights_of(args.forward, role.branch),
                                  role.branch == kSquare ? 9 : kBand, branch, role.within);
  }
  Sums<kBand> sums = {};
#pragma unroll 1
  for (int tile = span.begin; tile < span.end; ++tile) {
    const auto i = static_cast<uint32_t>(tile - span.begin);
    const bool has_next = tile + 1 < span.end;
    uint16_t* set = sets + (i & 1U) * cut.set_elements;
    prims::cp_async_wait<0>();
    if (i == 0) {
      sync_walkers();
    } else {
      prims::named_barrier_sync(kKept + ((i - 1) & 1U), kStreamThreads);
    }
    if (i == 0 || has_next) prims::named_barrier_arrive(kBegun + (i & 1U), kStreamThreads);
    if (has_next) {
      stage_band<kBand>(sets + ((i + 1) & 1U) * cut.set_elements, args, cut, band_at(tile + 1));
    }
    const int rows = band_at(tile).rows;
    if (role.is_active) {
      const int own = kept_in_slices + static_cast<int>(role.branch) * branch + role.within;
      const int own_halo =
          cut.halo_at + role.within + (role.branch == kBandH ? 2 * sizes.width * branch : 0);
      View view;
      view.dy = {set + own, set + own_halo, sizes.width, cut.slice, branch};
      view.x = set + cut.x_at + own;
      view.dx = set + cut.dx_at + own;
      view.rows = rows;
      view.segments = cut.segments;
      walk_band(sums, taps, view, role);
    }
    keep_in_slices(set + cut.dx_at, set, kept_in_slices, cut.slice, rows * sizes.width);
    sync_walkers();
    uint16_t* dx = static_cast<uint16_t*>(args.dx) + at_band(sizes, band_at(tile));
    for_slices(cut, sizes.channels, rows * sizes.width, [&](int shared, int to) {
      store_bits<kPieceChannels>(dx + to, load_bits<kPieceChannels>(set + cut.dx_at + shared));
    });
  }
  const int64_t num_sums = kSquareSums + 2 * (kBand + 1);
  write_partials<kBand, kWalkBranchThreads>(
      sums, role, {branch / 2, branch, role.within}, reinterpret_cast<float*>(sets),
      args.workspace + blockIdx.x * num_sums * branch, [] { sync_walkers(); });
}

template <int kBand>
__global__ void __launch_bounds__(kStreamThreads, 1)
    stream_backward_kernel(MixerBackwardArgs args, StreamCut cut) {
  extern __shared__ __align__(16) uint16_t mixer_sets[];
  const Span span = span_of(cut);
  prims::wait_for_previous_kernel();
  prims::allow_next_kernel();
  if (threadIdx.x < kWalkThreads) {
    walk_span<kBand>(args, cut, span, mixer_sets);
  } else {
    keep_span(args, cut, span);
  }
}

StreamCut stream_cut_of(const MixerBackwardArgs& args) {
  const MixerArgs& forward = args.forward;
  const ImageSizes& sizes = forward.sizes;
  const int num_kept = sizes.channels - 3 * forward.branch;
  const auto whole = [](int elements) { return (elements + 7) / 8 * 8; };
  const auto by = [](int divisor) { return Divisor{divisor, 1.0F / static_cast<float>(divisor)}; };
  StreamCut cut;
  cut.bands_per_image = (sizes.height + kOutputs - 1) / kOutputs;
  cut.num_tiles = sizes.num_images * cut.bands_per_image;
  cut.halo_piece = piece_of({sizes.channels, num_kept, forward.branch}, {args.dy});
  cut.segments = (sizes.width + kOutputs - 1) / kOutputs;
  cut.first = num_kept / kPieceChannels * kPieceChannels;
  cut.slice = sizes.channels - cut.first;
  const int band = kOutputs * sizes.width * cut.slice;
  cut.halo_at = band;
  cut.x_at = band + whole((forward.band + 1) * sizes.width * forward.branch);
  cut.dx_at = cut.x_at + band;
  cut.set_elements = cut.dx_at + band;
  cut.by_width = by(sizes.width);
  cut.by_slice = by(cut.slice / kPieceChannels);
  cut.by_kept = by(cut.first / kPieceChannels);
  return cut;
}

int64_t shared_bytes_of(const StreamCut& cut, int band) {
  const int64_t sums_bytes = int64_t{band + 1} * 2 * kWalkThreads * int64_t{sizeof(float)};
  return std::max(sums_bytes, 2 * int64_t{cut.set_elements} * int64_t{sizeof(uint16_t)});
}

template <int kBand>
void launch_band(const MixerBackwardArgs& args, const StreamCut& cut, int num_ctas,
                 CUstream_st* stream) {
  const auto kernel = stream_backward_kernel<kBand>;
  const auto shared_bytes = static_cast<int>(shared_bytes_of(cut, kBand));
  COMET_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  launch_overlapped({dim3(static_cast<unsigned>(num_ctas)), kStreamThreads, shared_bytes, stream},
                    kernel, args, cut);
}

}  // namespace

bool launch_stream_backward(const MixerBackwardArgs& args, CUstream_st* stream) {
  const ImageSizes& sizes = args.forward.sizes;
  constexpr int kMaxRowElements = 1 << 20;  // of 7 rows: what follows stays in 32 bits
  if (piece_of({sizes.channels}, {args.forward.x, args.dy, args.dx}) < kPieceChannels) return false;
  if (args.forward.branch > 2 * kWalkBranchThreads) return false;
  if (int64_t{kOutputs} * sizes.width * sizes.channels > kMaxRowElements) return false;
  const StreamCut cut = stream_cut_of(args);
  const int num_sms = device_attribute(cudaDevAttrMultiProcessorCount);
  if (4 * int64_t{cut.num_tiles} < 3 * int64_t{num_sms} || cut.first == 0) return false;
  const int most_bytes = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  if (shared_bytes_of(cut, args.forward.band) > most_bytes) return false;
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
