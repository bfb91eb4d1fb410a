// All gradients of inception_mixer for launches of an image an SM and more (sm_90). A CTA takes
// whole images, row after row: nothing lies around what it reads, and rows of dy and dx, which are
// whole and contiguous, come and leave as one bulk copy each. Of x come the branches' channels, as
// boxes of a row. dw[t] = Σ x[q] · dy[q − t + half], so only dy is read around a row.
// A thread has two channels of one branch. Of k×1 it has a column, and the last k rows of dy there
// in registers: row q is made when row q + half of dy has come. Of 1×k and the square it has 7
// neighbouring columns of one row of two. Some warps add dy to dx in the channels that are kept.
// All of them add to a row of dx in shared memory; behind the last, the row leaves. Sums of dw stay
// in registers through all of a CTA's images, which then writes one row of partials; no atomics.
// Grid: one CTA on an SM, with images blockIdx.x, + gridDim.x, …. 20 warps: three each of the
// square and 1×k, eleven of k×1, two that keep, one that copies; 96 registers a thread. Shared
// memory: rows of dy | rows of dx, each with the branches' row of x | barriers.
// End: a CTA tells `arrivals` when its row of partials is written and when its dx is; the kernel
// that adds the partials waits for those, not for this one's end. Floor: as
// mixer_rows_backward.cu's.
#include <algorithm>

#include "comet/base/check.h"
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/tensor_map.h"
#include "comet/ops/inception_mixer/cuda/cut.h"
#include "comet/ops/inception_mixer/cuda/image_walks.cuh"

namespace comet::ops_cuda::mixer {
namespace images {
namespace {

template <int kBand, Widths kWidths>
__global__ void __launch_bounds__(kImagesThreads, 1)
    images_backward_kernel(const __grid_constant__ MixerBackwardArgs args,
                           const __grid_constant__ ImagesCut cut,
                           const __grid_constant__ ImageMaps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(128) uint16_t mixer_images[];
  const Shared shared{mixer_images, cut};
  const Copier copier{args, maps, shared};
  if (threadIdx.x >= kFirstCopier) {
    shared.init_barriers();
    if (prims::elect_one()) copier.prefetch();
  }
  if (kWidths != Widths::kSeven) shared.clear_sides();
  __syncthreads();
  prims::wait_for_previous_kernel();
  // Not sooner: the kernel that adds the partials looks at the word of arrivals as soon as it runs,
  // and the one before this may be such a kernel, which has not made the word 0 until it ends.
  prims::allow_next_kernel();
  if (static_cast<int>(blockIdx.x) >= args.forward.sizes.num_images) return;
  if (threadIdx.x >= kFirstCopier) {
    if (prims::elect_one()) {
      copier.run();
      prims::arrive_at(args.arrivals);
    }
    return;
  }
  if (threadIdx.x >= kFirstKeeper) {
    keep_all(args, shared);
    prims::named_barrier_arrive(kRowsBarrier, kFirstCopier);
    return;
  }
  auto* laid = reinterpret_cast<float2*>(mixer_images);
  const int branch = args.forward.branch;
  const int num_across = kRowsAtOnce * cut.segments;
  float* partials = args.workspace + blockIdx.x * int64_t{kSquareSums + 2 * (kBand + 1)} * branch;
  if (threadIdx.x < kFirstAlong) {
    add_sums(walk_down<kBand, kWidths>(args, shared), kFirstDown, branch, args.forward.sizes.width,
             laid, partials + (kSquareSums + kBand + 1) * branch);
  } else if (threadIdx.x < kFirstSquare) {
    add_sums(walk_along<kBand, kWidths>(args, shared), kFirstAlong, branch, num_across, laid,
             partials + kSquareSums * branch);
  } else {
    add_sums(walk_square<kWidths>(args, shared), kFirstSquare, branch, num_across, laid, partials);
  }
  prims::named_barrier_sync(kSumsBarrier, kSummers);
  if (threadIdx.x == 0) prims::arrive_at(args.arrivals);
#else
  __trap();
#endif
}

bool is_seven(const ImageSizes& sizes) {
  return sizes.width == kOutputs && sizes.height == kOutputs;
}

/// As many rows as there is room for; near_slots is 0 where that is too few. A CTA has num_rows at
/// most.
ImagesCut images_cut_of(const MixerArgs& forward, int num_rows, int shared_bytes) {
  const ImageSizes& sizes = forward.sizes;
  const BandCut band = band_cut_of(forward);
  ImagesCut cut;
  cut.first = band.first;
  cut.slice = band.slice;
  cut.segments = band.segments;
  cut.row = sizes.width * sizes.channels;
  const int side = is_seven(sizes) ? 0 : forward.band / 2 * sizes.channels;
  cut.dy_at = whole_box(side);
  cut.dy_pitch = whole_box(cut.row + side);
  cut.x_at = whole_box(cut.row);
  cut.near_pitch = cut.x_at + whole_box(sizes.width * cut.slice);
  // Rows of dy that a row needs: the one above it, half a kernel below it or the whole image of a
  // column in registers; and the next ones.
  const int least_dy = is_seven(sizes) ? kOutputs + 1 : forward.band / 2 + 2;
  const int elements = shared_bytes / 2 - kNumBarriers * 4;
  const int least_sums = kSummers * (forward.band + 1) * static_cast<int>(sizeof(float2)) / 2;
  for (int coming = 5; coming > 0 && cut.near_slots == 0; --coming) {
    cut.dy_slots = std::min({least_dy + coming, num_rows, kMaxDySlots});
    cut.near_at = whole_box(std::max(cut.dy_at + cut.dy_slots * cut.dy_pitch, least_sums));
    const int room = std::max(elements - cut.near_at, 0);
    cut.near_slots = std::min(room / cut.near_pitch, kMaxNearSlots);
    if (cut.near_slots < kMinNearSlots) cut.near_slots = 0;
  }
  cut.barriers_at = cut.near_at + cut.near_slots * cut.near_pitch;
  return cut;
}

template <int kBand, Widths kWidths>
void launch_widths(const MixerBackwardArgs& args, const ImagesCut& cut, int num_ctas,
                   CUstream_st* stream) {
  const auto kernel = images_backward_kernel<kBand, kWidths>;
  const int shared_bytes = cut.barriers_at * static_cast<int>(sizeof(uint16_t)) +
                           kNumBarriers * static_cast<int>(sizeof(uint64_t));
  COMET_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  const ImageSizes& sizes = args.forward.sizes;
  const WideBlockMap dy = make_wide_block_map(args.dy, int64_t{cut.row} * 2);
  const WideBlockMap dx = make_wide_block_map(args.dx, int64_t{cut.row} * 2);
  ImagesCut with_maps = cut;
  with_maps.map_rows = dy.rows_of_block;
  launch_overlapped({dim3(static_cast<unsigned>(num_ctas)), kImagesThreads, shared_bytes, stream},
                    kernel, args, with_maps,
                    ImageMaps{dy.map, dx.map, box_map_of(sizes, args.forward.x, cut.slice, 1)});
}

template <int kBand>
void launch_band(const MixerBackwardArgs& args, const ImagesCut& cut, int num_ctas,
                 CUstream_st* stream) {
  const ImageSizes& sizes = args.forward.sizes;
  if (is_seven(sizes)) return launch_widths<kBand, Widths::kSeven>(args, cut, num_ctas, stream);
  if (sizes.width % kOutputs == 0) {
    return launch_widths<kBand, Widths::kSevens>(args, cut, num_ctas, stream);
  }
  launch_widths<kBand, Widths::kAny>(args, cut, num_ctas, stream);
}

/// Rows are aligned, boxes can be described (image_map.h, tensor_map.h), and a thread has a place.
bool has_places(const MixerBackwardArgs& args, const BandCut& band) {
  const ImageSizes& sizes = args.forward.sizes;
  const int branch = args.forward.branch;
  if (piece_of({sizes.channels}, {args.forward.x, args.dy, args.dx}) < kPieceChannels) return false;
  constexpr int kMaxWidth = 256;
  constexpr int kMaxBoxChannels = 512;
  constexpr int64_t kMaxPixels = int64_t{1} << 30;  // the maps' rows are not more
  return sizes.width <= kMaxWidth && sizes.channels <= 2 * kMaxBoxChannels &&
         int64_t{sizes.num_images} * sizes.height * sizes.width < kMaxPixels &&
         band.slice <= kMaxBoxChannels && branch % 2 == 0 &&
         sizes.width * branch <= 2 * kDownThreads &&
         kRowsAtOnce * band.segments * branch <= 2 * kAcrossThreads;
}

/// Of the card's SMs, three of four at least have an image in every round.
bool fills_card_by_images(int num_images, int num_sms) {
  const int rounds = (num_images + num_sms - 1) / num_sms;
  return 4 * int64_t{num_images} >= 3 * int64_t{rounds} * num_sms;
}

}  // namespace
}  // namespace images

bool launch_images_backward(const MixerBackwardArgs& args, CUstream_st* stream) {
  if (!runs_sm90_code()) return false;
  const int num_images = args.forward.sizes.num_images;
  const int num_sms = device_attribute(cudaDevAttrMultiProcessorCount);
  if (!images::fills_card_by_images(num_images, num_sms)) return false;
  if (!images::has_places(args, band_cut_of(args.forward))) return false;
  const int most_bytes = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  const int num_ctas = std::min(num_sms, kMaxPartials);
  const int num_rows = args.forward.sizes.height * ((num_images + num_ctas - 1) / num_ctas);
  const images::ImagesCut cut = images::images_cut_of(args.forward, num_rows, most_bytes);
  if (cut.near_slots == 0) return false;
  COMET_CHECK(args.arrivals != nullptr, "gradients of a mixer without a word for arrivals");
  if (args.forward.band == 11) {
    images::launch_band<11>(args, cut, num_ctas, stream);
  } else {
    images::launch_band<9>(args, cut, num_ctas, stream);
  }
  const int num_busy = std::min(num_images, num_ctas);
  constexpr uint32_t kArrivalsOfCta = 2;  // dx is written, and sums of dw are
  add_partials(args, num_busy, {args.arrivals, kArrivalsOfCta * static_cast<uint32_t>(num_busy)},
               stream);
  return true;
}

}  // namespace comet::ops_cuda::mixer
