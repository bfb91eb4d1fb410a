// out = inception_mixer(x) on BF16 NHWC images, FP32 sums (bias first, taps in order).
// x, out [images, height, width, channels]; weights FP32 [taps, branch].
// Grid: x → tiles of 7 rows × up to 56 columns of an image; y → chunks of the branches' channels.
// 288 threads, three warps a branch (tile.cuh); all begin the copies to shared memory. Half of the
// CTAs copy the kept channels while those are on their way, half behind their outputs, so that the
// CTAs of an SM do not wait or compute at the same time. Two CTAs on an SM. kFlip: out += the
// transposed mixer of x, for gradients.
// Shared memory: inputs of the three branches with their halos: 46 KB for all stages of
// InceptionNeXt-T.
// Floor: 2 · bytes of x at copy rate: stage 1 of InceptionNeXt-T at 128 images 154 MB, 36 µs at 4.3
// TB/s; 10.3 FMA for every one of 3/8 of the outputs, 5 µs at 30 TFMA/s.
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/ops/inception_mixer/cuda/cut.h"
#include "comet/ops/inception_mixer/cuda/kept.cuh"
#include "comet/ops/inception_mixer/cuda/taps.cuh"
#include "comet/ops/inception_mixer/cuda/tile.cuh"

namespace comet::ops_cuda {
namespace mixer {
namespace {

/// sums += what is there, in the first `num` pixels.
__device__ __forceinline__ void add_old(float (&sums)[kOutputs][2], const uint16_t* p, int step,
                                        int num) {
  uint32_t old[kOutputs];
#pragma unroll
  for (int r = 0; r < kOutputs; ++r) {
    old[r] = r < num ? *reinterpret_cast<const uint32_t*>(p + r * step) : 0;
  }
#pragma unroll
  for (int r = 0; r < kOutputs; ++r) {
    float low, high;
    widen(low, high, old[r]);
    sums[r][0] += low;
    sums[r][1] += high;
  }
}

/// The outputs of all walkers of a thread. products(walk, use): tile.cuh's. out: the image's first
/// pixel, the thread's first channel; the outputs of a walker are `step` elements apart.
template <int kBand, bool kFlip, typename Products>
__device__ __forceinline__ void make_outputs(const Taps<kBand>& taps, const ImageSizes& sizes,
                                             const Place& place, const Role& role, uint16_t* out,
                                             int step, const Products& products) {
  const int num = num_walkers(place, role.branch);
  for (int walker = role.slot; walker < num; walker += role.num_slots) {
    const Walk walk = walk_of(place, role.branch, walker);
    float sums[kOutputs][2];
    walker_sums(sums, taps, [&](const auto& use) { products(walk, use); });
    const int row = place.first_row + walk.row;
    const int column = place.first_column + walk.column;
    uint16_t* p = out + (row * sizes.width + column) * sizes.channels;
    if (kFlip) add_old(sums, p, step, walk.num_outputs);
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      if (r < walk.num_outputs) store_channels(p, sums[r]);
      p += step;
    }
  }
}

/// The same of a thread's branch; out: as above.
template <int kBand, bool kFlip>
__device__ __forceinline__ void make_branch_outputs(const Taps<kBand>& taps,
                                                    const ImageSizes& sizes, const Cut& cut,
                                                    const Place& place, const Role& role,
                                                    uint16_t* out) {
  extern __shared__ __align__(16) uint16_t mixer_regions[];
  const Way way = way_of<kBand>(cut, role.branch);
  const uint16_t* region = mixer_regions + way.region + role.within;
  const int row_step = sizes.width * sizes.channels;
  if (role.branch == kSquare) {
    make_outputs<kBand, kFlip>(
        taps, sizes, place, role, out, row_step, [&](const Walk& walk, const auto& use) {
          for_square_products(region + way.at(walk), way.pitch, cut.chunk_channels, use);
        });
  } else {
    const int step = role.branch == kBandW ? sizes.channels : row_step;
    make_outputs<kBand, kFlip>(taps, sizes, place, role, out, step,
                               [&](const Walk& walk, const auto& use) {
                                 for_line_products<kBand>(region + way.at(walk), way.step, use);
                               });
  }
}

template <int kBand, bool kFlip>
__global__ void __launch_bounds__(kMixerThreads, 2) mixer_kernel(MixerArgs args, Cut cut) {
  extern __shared__ __align__(16) uint16_t mixer_regions[];
  const ImageSizes& sizes = args.sizes;
  const Place place = place_of(sizes, cut, static_cast<int>(blockIdx.x));
  const Chunk chunk = chunk_of(cut, args.branch);
  const int num_kept = sizes.channels - 3 * args.branch;
  const auto* x = static_cast<const uint16_t*>(args.x);
  const bool keeps_first =
      kFlip || 2 * (blockIdx.y * gridDim.x + blockIdx.x) < gridDim.x * gridDim.y;
  const auto keep = [&] {  // made anew: nothing of it holds registers in between
    const auto tile = static_cast<int>(prims::value_anew(blockIdx.x));
    copy_kept<kFlip>(static_cast<uint16_t*>(args.out), x, sizes, cut, place_of(sizes, cut, tile),
                     num_kept);
  };
  prims::wait_for_previous_kernel();
  prims::allow_next_kernel();
  for_piece(cut.piece, [&](auto piece) {
    stage_branches<piece.value>(mixer_regions, x + place.image_at + num_kept + chunk.first, sizes,
                                cut, place, chunk.count, args.branch,
                                [](Branch b) { return halo_of<kBand>(b); });
  });
  prims::cp_async_commit();
  if (keeps_first) keep();
  const Role role = role_of_thread(chunk, threadIdx.x);
  const int in_branch = chunk.first + role.within;
  const Taps<kBand> taps = load_taps<kBand, kFlip>(
      weights_of(args, role.branch), role.branch == kSquare ? 9 : kBand, args.branch, in_branch);
  prims::cp_async_wait<0>();
  __syncthreads();
  if (role.is_active) {
    auto* out = static_cast<uint16_t*>(args.out) + place.image_at + num_kept +
                static_cast<int>(role.branch) * args.branch + in_branch;
    make_branch_outputs<kBand, kFlip>(taps, sizes, cut, place, role, out);
  }
  if (!kFlip && !keeps_first) keep();
}

template <int kBand, bool kFlip>
void launch(const MixerArgs& args, CUstream_st* stream) {
  if (!kFlip && (launch_slices(args, stream) || launch_rows(args, stream))) return;
  const Cut cut = cut_of(args, {args.x, args.out});
  const int shared_bytes = all_elements<kBand>(cut) * static_cast<int>(sizeof(uint16_t));
  COMET_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(mixer_kernel<kBand, kFlip>),
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  const dim3 grid(static_cast<unsigned>(cut.num_tiles), static_cast<unsigned>(cut.num_chunks));
  launch_overlapped({grid, kMixerThreads, shared_bytes, stream}, mixer_kernel<kBand, kFlip>, args,
                    cut);
}

}  // namespace

void launch_transposed(const MixerArgs& args, CUstream_st* stream) {
  if (args.band == 11) return launch<11, true>(args, stream);
  launch<9, true>(args, stream);
}

}  // namespace mixer

void launch_inception_mixer(const MixerArgs& args, CUstream_st* stream) {
  if (is_empty(args.sizes)) return;
  const bool has_pairs = args.branch > 0 && mixer::piece_of({args.sizes.channels, args.branch},
                                                            {args.x, args.out}) > 1;
  if (has_pairs && args.band == 11) return mixer::launch<11, false>(args, stream);
  if (has_pairs && args.band == 9) return mixer::launch<9, false>(args, stream);
  mixer::launch_any_forward(args, stream);
}

}  // namespace comet::ops_cuda
