// All gradients of inception_mixer where 7 whole rows of the branches fit into shared memory: dx +=
// the transposed mixer of dy, dw[t] = Σ x[q] · dy[q − t + half], db = Σ dy. A walker of k outputs
// reads dy once for both: dy goes to dx by the kernel turned round, and with x of the outputs'
// pixels to the sums of dw, so that only dy has rows around the band.
// Grid: x → as many CTAs as run at once (two on an SM), each takes bands of 7 rows blockIdx.x, +
// gridDim.x, …; y → chunks of every branch's channels, where bands are few. 288 threads, three
// warps a branch (tile.cuh); a thread keeps its channels, so its sums stay in registers through all
// its bands, then a CTA writes one row of partials. No atomics: the same bits for every launch on a
// card. The kept channels of dx go past shared memory; half of the CTAs add them before their
// walks, half behind, so that the two CTAs of an SM do not wait or compute at the same time.
// Shared memory: dy of the branches in the band [7][width][3 · chunk] | dy around it, [2 of the
// square, band − 1 of k×1][width][chunk] | x | dx, which is added to in place. 101 KB for all
// stages of InceptionNeXt-T.
// Floor: 3 3/8 · bytes of x at copy rate (dy; dx read and written; the branches of x): stage 1 of
// InceptionNeXt-T at 128 images 260 MB, 66 µs at 3.93 TB/s.
#include <algorithm>

#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/ops/inception_mixer/cuda/cut.h"
#include "comet/ops/inception_mixer/cuda/dw_sums.cuh"
#include "comet/ops/inception_mixer/cuda/kept.cuh"
#include "comet/ops/inception_mixer/cuda/rows.cuh"
#include "comet/ops/inception_mixer/cuda/taps.cuh"

namespace comet::ops_cuda::mixer {
namespace {

constexpr int kCtasOfSm = 2;

struct BackwardCut {
  int32_t bands_per_image = 0;
  int32_t num_tiles = 0;
  int32_t chunk_channels = 0;
  int32_t num_chunks = 0;
  int32_t piece = 0;       // channels that a copy to shared memory takes: 2, 4 or 8
  int32_t kept_piece = 0;  // the same of the channels that are kept
  int32_t segments = 0;    // walkers of 1×k in a row
  int32_t halo_at = 0;     // where the parts of shared memory lie, in elements
  int32_t x_at = 0;
  int32_t dx_at = 0;
  Divisor by_width;
};

/// The slices of three branches that a CTA takes of each pixel of a band.
struct Slices {
  int channels = 0;  // of a pixel in memory
  int branch = 0;
  int count = 0;  // channels of a branch that are taken
  int num_pixels = 0;

  /// Calls use(in shared memory, in memory) for this thread's pieces of pixels begin … end: a
  /// thread keeps its piece.
  template <int kPiece, typename T, typename Use>
  __device__ __forceinline__ void for_pieces(uint16_t* shared, T* p, int begin, int end,
                                             const Use& use) const {
    const int in_branch = count / kPiece;
    const int pieces = 3 * in_branch;
    const int num_lanes = kMixerThreads / pieces;
    const int thread = static_cast<int>(prims::thread_idx_anew());
    const int lane = thread / pieces;
    const int piece = thread - lane * pieces;
    const int branch_idx = piece / in_branch;
    const int within = (piece - branch_idx * in_branch) * kPiece;
    if (lane >= num_lanes) return;
    const int first = begin + lane;
    shared += branch_idx * count + within + first * 3 * count;
    p += branch_idx * branch + within + first * channels;
    const int shared_step = num_lanes * 3 * count;
    const int step = num_lanes * channels;
#pragma unroll 4
    for (int i = first; i < end; i += num_lanes) {
      use(shared, p);
      shared += shared_step;
      p += step;
    }
  }

  /// Begins to copy [7 · width][3][count]; zeros behind the last pixel.
  template <int kPiece>
  __device__ __forceinline__ void stage(uint16_t* shared, const uint16_t* from, int most) const {
    for_pieces<kPiece>(shared, from, 0, num_pixels,
                       [](uint16_t* to, const uint16_t* p) { copy_existing<kPiece>(to, p); });
    if (num_pixels == most) return;
    for_pieces<kPiece>(shared, from, num_pixels, most, [&](uint16_t* to, const uint16_t*) {
      store_bits<kPiece>(to, Bits<kPiece>{});
    });
  }

  template <int kPiece>
  __device__ __forceinline__ void store(uint16_t* to, uint16_t* shared) const {
    for_pieces<kPiece>(shared, to, 0, num_pixels, [](const uint16_t* made, uint16_t* p) {
      store_bits<kPiece>(p, load_bits<kPiece>(made));
    });
  }
};

/// dx += dy in the kept channels of pixels begin … end. kBatch pixels of a thread's piece are read
/// before the first is written.
template <int kPiece, int kBatch>
__device__ __forceinline__ void add_kept(uint16_t* dx, const uint16_t* dy, int channels,
                                         int num_kept, int begin, int end) {
  const int pieces = num_kept / kPiece;
  if (pieces == 0) return;
  const int num_threads = min(pieces, kMixerThreads);
  const int num_lanes = kMixerThreads / num_threads;
  const int thread = static_cast<int>(prims::thread_idx_anew());
  const int lane = thread / num_threads;
  if (lane >= num_lanes) return;
#pragma unroll 1
  for (int piece = thread - lane * num_threads; piece < pieces; piece += num_threads) {
#pragma unroll 1
    for (int first = begin + lane; first < end; first += kBatch * num_lanes) {
      Bits<kPiece> added[kBatch];
      Bits<kPiece> old[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {  // the last pixel again where there is none
        const int pixel = min(first + i * num_lanes, end - 1);
        added[i] = load_bits<kPiece>(dy + pixel * channels + piece * kPiece);
        old[i] = load_bits<kPiece>(dx + pixel * channels + piece * kPiece);
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int pixel = first + i * num_lanes;
        if (pixel >= end) continue;
#pragma unroll
        for (int j = 0; j < kPiece / 2; ++j) old[i].v[j] = add_pair(added[i].v[j], old[i].v[j]);
        store_bits<kPiece>(dx + pixel * channels + piece * kPiece, old[i]);
      }
    }
  }
}

template <int kBand>
__global__ void __launch_bounds__(kMixerThreads, kCtasOfSm)
    rows_backward_kernel(MixerBackwardArgs args, BackwardCut cut) {
  extern __shared__ __align__(16) uint16_t mixer_bands[];
  const ImageSizes& sizes = args.forward.sizes;
  const int branch = args.forward.branch;
  const int num_kept = sizes.channels - 3 * branch;
  const int most = kOutputs * sizes.width;
  const auto* x = static_cast<const uint16_t*>(args.forward.x);
  const auto* dy = static_cast<const uint16_t*>(args.dy);
  auto* dx = static_cast<uint16_t*>(args.dx);
  const int first = static_cast<int>(blockIdx.y) * cut.chunk_channels;
  const Chunk chunk{first, min(cut.chunk_channels, branch - first)};
  const int row_elements = sizes.width * sizes.channels;
  const auto band_at = [&](int tile) { return band_of(sizes, cut.bands_per_image, tile); };
  const auto slices_of = [&](const Band& band) {
    return Slices{sizes.channels, branch, chunk.count, band.rows * sizes.width};
  };
  const auto place_of_band = [&](const Band& band) {
    return band.image_at + static_cast<int64_t>(band.first_row) * row_elements;
  };
  const int slice = num_kept + chunk.first;
  const auto stage_inputs = [&](const Band& band) {
    for_piece(cut.piece, [&](auto piece) {
      const Slices slices = slices_of(band);
      const int64_t at = place_of_band(band) + slice;
      slices.stage<piece.value>(mixer_bands, dy + at, most);
      slices.stage<piece.value>(mixer_bands + cut.x_at, x + at, most);
      stage_halos<kBand, piece.value, kMixerThreads>(
          mixer_bands + cut.halo_at, dy + band.image_at + slice, sizes, cut.by_width,
          band.first_row, branch, chunk.count, static_cast<int>(prims::thread_idx_anew()));
    });
  };
  const auto stage_dx = [&](const Band& band) {
    for_piece(cut.piece, [&](auto piece) {
      slices_of(band).template stage<piece.value>(mixer_bands + cut.dx_at,
                                                  dx + place_of_band(band) + slice, most);
    });
    prims::cp_async_commit();
  };
  const auto keep = [&](const Band& band) {
    const int num_pixels = band.rows * sizes.width;
    const int begin = num_pixels * static_cast<int>(blockIdx.y) / cut.num_chunks;
    const int end = num_pixels * (static_cast<int>(blockIdx.y) + 1) / cut.num_chunks;
    const int64_t at = place_of_band(band);
    if (cut.kept_piece == 8) {
      add_kept<8, 4>(dx + at, dy + at, sizes.channels, num_kept, begin, end);
    } else if (cut.kept_piece == 4) {
      add_kept<4, 7>(dx + at, dy + at, sizes.channels, num_kept, begin, end);
    } else {
      add_kept<2, 7>(dx + at, dy + at, sizes.channels, num_kept, begin, end);
    }
  };
  prims::wait_for_previous_kernel();
  prims::allow_next_kernel();
  const auto stride = static_cast<int>(gridDim.x);
  const bool keeps_first =
      2 * (blockIdx.x + blockIdx.y * gridDim.x) < gridDim.x * gridDim.y;  // see above
  Sums<kBand> sums = {};
  // The first time around there is no band yet, the last time none follows.
#pragma unroll 1
  for (int tile = static_cast<int>(blockIdx.x) - stride; tile < cut.num_tiles; tile += stride) {
    const int next = tile + stride;
    const bool has_next = next < cut.num_tiles;
    if (tile >= 0) {  // all of it made anew: it holds no registers while copies are made
      const Role role = role_of_thread(chunk, prims::thread_idx_anew());
      const int own = static_cast<int>(role.branch) * chunk.count + role.within;
      const int own_halo =
          cut.halo_at + role.within + (role.branch == kBandH ? 2 * sizes.width * chunk.count : 0);
      View view;
      view.dy = {mixer_bands + own, mixer_bands + own_halo, sizes.width, 3 * chunk.count,
                 chunk.count};
      view.x = mixer_bands + cut.x_at + own;
      view.dx = mixer_bands + cut.dx_at + own;
      view.channels = 3 * chunk.count;
      view.rows = band_at(tile).rows;
      view.segments = cut.segments;
      Taps<kBand> taps = {};
      if (role.is_active) {
        taps = load_taps<kBand, true>(weights_of(args.forward, role.branch),
                                      role.branch == kSquare ? 9 : kBand, branch,
                                      chunk.first + role.within);
      }
      prims::cp_async_wait<0>();
      __syncthreads();
      if (role.is_active) walk_band(sums, taps, view, role);
      __syncthreads();
    }
    if (has_next) stage_inputs(band_at(next));
    if (tile >= 0) {
      const Band band = band_at(tile);
      for_piece(cut.piece, [&](auto piece) {
        slices_of(band).template store<piece.value>(dx + place_of_band(band) + slice,
                                                    mixer_bands + cut.dx_at);
      });
      __syncthreads();  // before the next dx is copied over this one
    }
    if (has_next) stage_dx(band_at(next));
    const int kept = keeps_first ? next : tile;
    if (kept >= 0 && kept < cut.num_tiles) keep(band_at(kept));
  }
  const int64_t num_sums = kSquareSums + 2 * (kBand + 1);
  const Role role = role_of_thread(chunk, prims::thread_idx_anew());
  write_partials<kBand>(sums, role, {chunk.count / 2, branch, chunk.first + role.within},
                        reinterpret_cast<float*>(mixer_bands),
                        args.workspace + blockIdx.x * num_sums * branch, [] { __syncthreads(); });
}

int shared_bytes_of(const BackwardCut& cut, const MixerBackwardArgs& args) {
  const int sums_bytes =
      (args.forward.band + 1) * 2 * kMixerThreads * static_cast<int>(sizeof(float));
  const int band = kOutputs * args.forward.sizes.width * 3 * cut.chunk_channels;
  return std::max(sums_bytes, (cut.dx_at + band) * static_cast<int>(sizeof(uint16_t)));
}

BackwardCut backward_cut_of(const MixerBackwardArgs& args, int num_wanted) {
  const MixerArgs& forward = args.forward;
  const ImageSizes& sizes = forward.sizes;
  const int num_kept = sizes.channels - 3 * forward.branch;
  const auto whole = [](int elements) { return (elements + 7) / 8 * 8; };
  BackwardCut cut;
  cut.bands_per_image = (sizes.height + kOutputs - 1) / kOutputs;
  cut.num_tiles = sizes.num_images * cut.bands_per_image;
  cut.piece = piece_of({sizes.channels, num_kept, forward.branch}, {forward.x, args.dy, args.dx});
  cut.kept_piece = piece_of({sizes.channels, num_kept}, {args.dy, args.dx});
  cut.segments = (sizes.width + kOutputs - 1) / kOutputs;
  cut.by_width = {sizes.width, 1.0F / static_cast<float>(sizes.width)};
  const int pieces = forward.branch / cut.piece;
  const int most_chunks = std::clamp(pieces * cut.piece / 16, 1, 4);  // 32 bytes a slice at least
  const int wanted = std::clamp(num_wanted / cut.num_tiles, 1, most_chunks);
  cut.chunk_channels = (pieces + wanted - 1) / wanted * cut.piece;
  cut.num_chunks = (forward.branch + cut.chunk_channels - 1) / cut.chunk_channels;
  const int band = whole(kOutputs * sizes.width * 3 * cut.chunk_channels);
  cut.halo_at = band;
  cut.x_at = band + whole((forward.band + 1) * sizes.width * cut.chunk_channels);
  cut.dx_at = cut.x_at + band;
  return cut;
}

template <int kBand>
void launch_band(const MixerBackwardArgs& args, const BackwardCut& cut, int num_ctas,
                 CUstream_st* stream) {
  const auto kernel = rows_backward_kernel<kBand>;
  const int shared_bytes = shared_bytes_of(cut, args);
  COMET_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  const dim3 grid(static_cast<unsigned>(num_ctas), static_cast<unsigned>(cut.num_chunks));
  launch_overlapped({grid, kMixerThreads, shared_bytes, stream}, kernel, args, cut);
}

}  // namespace

bool launch_rows_backward(const MixerBackwardArgs& args, CUstream_st* stream) {
  const ImageSizes& sizes = args.forward.sizes;
  constexpr int kMaxBytes = 112 * 1024;  // two CTAs on an SM
  if (args.forward.branch > 2 * kBranchThreads) return false;
  if (int64_t{kOutputs} * sizes.width * sizes.channels * 2 > 2 * kMaxBytes) return false;
  const int num_resident = kCtasOfSm * device_attribute(cudaDevAttrMultiProcessorCount);
  const BackwardCut cut = backward_cut_of(args, num_resident);
  const int most_bytes =
      std::min(kMaxBytes, device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  if (shared_bytes_of(cut, args) > most_bytes) return false;
  const int num_ctas =
      std::min({cut.num_tiles, std::max(1, num_resident / cut.num_chunks), kMaxPartials});
  if (args.forward.band == 11) {
    launch_band<11>(args, cut, num_ctas, stream);
  } else {
    launch_band<9>(args, cut, num_ctas, stream);
  }
  add_partials(args, num_ctas, {}, stream);
  return true;
}

}  // namespace comet::ops_cuda::mixer
