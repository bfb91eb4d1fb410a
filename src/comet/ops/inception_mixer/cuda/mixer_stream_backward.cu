// All gradients of inception_mixer for launches of a band of 7 rows or more an SM (sm_90): what
// mixer_rows_backward.cu says of walks, sums and partials, by three sides of a CTA that are on
// their way all the time. Stagers copy the branches' slices of a band of dy and x, and the rows of
// dy around it, into one set of shared memory (cp.async, zeros outside of the image) while walkers
// walk over the other, and store what those made of x: dx, whose old values walkers read on their
// way. A keeper adds dy to dx in the channels before the slices, a row at a time, which tensor
// copies bring to shared memory and take back. Grid: one CTA on an SM, each with neighbouring
// bands. 12 warps walk, four a branch, 3 stage, one keeps: 128 registers a thread. Order: the kept
// channels of a band are read when the walkers are through with the band before the last, and the
// walkers wait for those of the last, so that sectors which both sides touch are still in L2.
// Slices begin at the 16-byte piece that the first branch begins in; the kept channels of that
// piece are the stagers'. Shared memory: two sets of dy of a band [7][width][slice] | dy around it:
// a row above, one below (for the square), half a kernel above, half below (for k×1)
// [rows][width][branch, in pieces] | x; then kept rows of dy and dx, as many as there is room for,
// and barriers. Floor: as mixer_rows_backward.cu's.
#include <algorithm>

#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/ops/inception_mixer/cuda/cut.h"
#include "comet/ops/inception_mixer/cuda/stream_sides.cuh"
#include "comet/ops/inception_mixer/cuda/taps.cuh"

namespace comet::ops_cuda::mixer {
namespace {

// ---- Walkers

/// A thread's channels of a band. dx: the band's first pixel.
__device__ __forceinline__ View view_of(uint16_t* set, const uint16_t* dx, const ImageSizes& sizes,
                                        int branch, const StreamCut& cut, const Role& role) {
  const int num_kept = cut.slice - 3 * branch;
  const int own = num_kept + static_cast<int>(role.branch) * branch + role.within;
  const bool is_band_h = role.branch == kBandH;
  const int halo = is_band_h ? cut.band_h_at + cut.band_h_skip : cut.square_at + num_kept;
  View view;
  view.dy = {set + own, set + halo + role.within, sizes.width,
             cut.slice, cut.halo_slice,           is_band_h ? cut.band_h_gap : cut.square_gap};
  view.x = set + cut.x_at + own;
  view.dx = set + cut.x_at + own;
  view.old = dx + cut.first + own;
  view.channels = cut.slice;
  view.old_channels = sizes.channels;
  view.segments = cut.segments;
  return view;
}

template <int kBand>
__device__ __forceinline__ void walk_span(const MixerBackwardArgs& args, const Shared& shared,
                                          const Span& span) {
  const ImageSizes& sizes = args.forward.sizes;
  const StreamCut& cut = shared.cut;
  const int branch = args.forward.branch;
  const Role role = role_of_thread<kWalkBranchThreads>({0, branch}, threadIdx.x);
  Taps<kBand> taps = {};
  if (role.is_active) {
    taps = load_taps<kBand, true>(weights_of(args.forward, role.branch),
                                  role.branch == kSquare ? 9 : kBand, branch, role.within);
  }
  Sums<kBand> sums = {};
  const int num_turns = span.end - span.begin;
#pragma unroll 1
  for (int turn = 0; turn < num_turns; ++turn) {
    const Band band = band_of(sizes, cut.bands_per_image, span.begin + turn);
    prims::mbarrier_wait(shared.full(turn), Shared::parity(turn));
    if (turn > 0 && cut.first > 0) {
      prims::mbarrier_wait(shared.added(turn - 1), Shared::parity(turn - 1));
    }
    if (role.is_active) {
      View view =
          view_of(shared.set(turn), static_cast<const uint16_t*>(args.dx) + at_band(sizes, band),
                  sizes, branch, cut, role);
      view.rows = band.rows;
      walk_band<true>(sums, taps, view, role);
    }
    __syncwarp();
    if (threadIdx.x % 32 == 0) prims::mbarrier_arrive(shared.walked(turn));
    const uint32_t walked = kWalked + static_cast<uint32_t>(turn & 1);
    if (turn + 1 < num_turns) {
      prims::named_barrier_arrive(walked, kWalkAndStage);
    } else {  // stagers have read what the sums go over
      prims::named_barrier_sync(walked, kWalkAndStage);
    }
  }
  const int64_t num_sums = kSquareSums + 2 * (kBand + 1);
  write_partials<kBand, kWalkBranchThreads>(
      sums, role, {branch / 2, branch, role.within}, reinterpret_cast<float*>(shared.all),
      args.workspace + blockIdx.x * num_sums * branch,
      [] { prims::named_barrier_sync(kWalkers, kWalkThreads); });
}

template <int kBand>
__global__ void __launch_bounds__(kStreamThreads, 1)
    stream_backward_kernel(const __grid_constant__ MixerBackwardArgs args,
                           const __grid_constant__ StreamCut cut,
                           const __grid_constant__ KeptMaps maps) {
  extern __shared__ __align__(128) uint16_t mixer_sets[];
  const Shared shared{mixer_sets, cut};
  const Span span = span_of(cut);
  if (threadIdx.x == 0) shared.init_barriers();
  __syncthreads();
  prims::wait_for_previous_kernel();
  prims::allow_next_kernel();
  if (threadIdx.x < kFirstStager) {
    walk_span<kBand>(args, shared, span);
  } else if (threadIdx.x < kFirstKeeper) {
    Stagers<kBand>{args, shared, span}.run();
  } else if (cut.first > 0) {
    Keeper{maps, shared, args.forward.sizes, span}.run();
  }
}

int64_t sums_bytes_of(int band) {
  return int64_t{band + 1} * 2 * kWalkThreads * int64_t{sizeof(float)};
}

/// shared_bytes: the most that a CTA can have.
StreamCut stream_cut_of(const MixerArgs& forward, int shared_bytes) {
  const ImageSizes& sizes = forward.sizes;
  StreamCut cut{band_cut_of(forward)};
  const int slices = whole_box(slice_elements(sizes, cut));
  place_around(cut, forward, slices);
  // The sums of dw go where the first set's dy is; dx behind it may still be read then.
  const int sums = static_cast<int>(sums_bytes_of(forward.band)) / 2;
  cut.x_at = std::max(slices + cut.around_elements(), whole_box(sums));
  cut.set_elements = cut.x_at + slices;
  constexpr int kBarrierElements = kNumBarriers * 4;
  if (cut.first > 0) {
    cut.kept_elements = whole_box(sizes.width * cut.first);
    const int room = shared_bytes / 2 - 2 * cut.set_elements - kBarrierElements;
    cut.kept_slots = std::clamp(room / (2 * cut.kept_elements), 0, kMaxKeptSlots);
  }
  cut.barriers_at = 2 * (cut.set_elements + cut.kept_slots * cut.kept_elements);
  const auto by = [](int channels) {
    const int num = channels / kPieceChannels;
    return Divisor{num, 1.0F / static_cast<float>(num)};
  };
  cut.by_slice = by(cut.slice);
  cut.by_halo = by(cut.halo_slice);
  return cut;
}

int shared_bytes_of(const StreamCut& cut) {
  return cut.barriers_at * static_cast<int>(sizeof(uint16_t)) +
         kNumBarriers * static_cast<int>(sizeof(uint64_t));
}

KeptMaps maps_of(const MixerBackwardArgs& args, const StreamCut& cut) {
  if (cut.first == 0) return {};
  const auto map = [&](const void* data) {
    return box_map_of(args.forward.sizes, data, cut.first, 1);
  };
  return {map(args.dy), map(args.dx)};
}

template <int kBand>
void launch_band(const MixerBackwardArgs& args, const StreamCut& cut, int num_ctas,
                 CUstream_st* stream) {
  const auto kernel = stream_backward_kernel<kBand>;
  const int shared_bytes = shared_bytes_of(cut);
  COMET_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  launch_overlapped({dim3(static_cast<unsigned>(num_ctas)), kStreamThreads, shared_bytes, stream},
                    kernel, args, cut, maps_of(args, cut));
}

/// Images are not too low, pieces are aligned, boxes can be described (image_map.h), and 32 bits
/// count what lies in an image.
bool has_pieces(const MixerBackwardArgs& args) {
  const ImageSizes& sizes = args.forward.sizes;
  if (piece_of({sizes.channels}, {args.forward.x, args.dy, args.dx}) < kPieceChannels) return false;
  constexpr int kMaxWidth = 256;
  return sizes.width <= kMaxWidth && 2 * sizes.height >= kMaxKeptSlots &&
         int64_t{sizes.height} * sizes.width * sizes.channels < (int64_t{1} << 30);
}

}  // namespace

bool launch_stream_backward(const MixerBackwardArgs& args, CUstream_st* stream) {
  if (!runs_sm90_code()) return false;
  if (args.forward.branch > 2 * kWalkBranchThreads || !has_pieces(args)) return false;
  const int most_bytes = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  const StreamCut cut = stream_cut_of(args.forward, most_bytes);
  const int num_sms = device_attribute(cudaDevAttrMultiProcessorCount);
  if (!fills_card(cut)) return false;
  if (shared_bytes_of(cut) > most_bytes) return false;
  if (cut.by_slice.divisor > kStageThreads || cut.by_halo.divisor > kStageThreads) return false;
  if (kOutputs * args.forward.sizes.width > kSkippedPixels * kStageThreads) return false;
  if (cut.first > kMaxBoxChannels || (cut.first > 0 && cut.kept_slots < 2)) return false;
  const int num_ctas = std::min({cut.num_tiles, num_sms, kMaxPartials});
  if (args.forward.band == 11) {
    launch_band<11>(args, cut, num_ctas, stream);
  } else {
    launch_band<9>(args, cut, num_ctas, stream);
  }
  add_partials(args, num_ctas, {}, stream);
  return true;
}

}  // namespace comet::ops_cuda::mixer
