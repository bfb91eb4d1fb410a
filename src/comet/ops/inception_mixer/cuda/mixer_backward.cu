// Gradients of inception_mixer on BF16 NHWC images, FP32 sums. dx += the transposed mixer of dy
// (mixer.cu). dw[t] = Σ dy[p] · x[p + t − half] = Σ x[q] · dy[q − t + half], so that only dy needs
// a halo; db = Σ dy. One kernel for both would keep 24 sums beside 22 weights and 14 outputs: more
// registers than three CTAs on an SM have.
// Grid of dw: as many CTAs as run at once (three on an SM); each takes tiles blockIdx.x, +
// gridDim.x, … of all images (tile.cuh). A thread keeps its channels, so its sums stay in registers
// through all its tiles; then a CTA adds its threads' in shared memory, writes one row of partials
// [9 taps, bias | band taps, bias | band taps, bias][branch], and sum_partials adds the rows. No
// atomics: the same bits for every launch on a card.
// Shared memory: dy of the branches with halos, x of the branches in the tile: 75 KB.
// Floor: 3 + ¾ · bytes of x at copy rate (dx: dy and dx read, dx written; dw: the branches of dy
// and x): stage 1 of InceptionNeXt-T at 128 images 289 MB, 67 µs at 4.3 TB/s.
#include <cuda_runtime_api.h>

#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/inception_mixer/cuda/cut.h"
#include "comet/ops/inception_mixer/cuda/dw_sums.cuh"
#include "comet/ops/inception_mixer/cuda/tile.cuh"

namespace comet::ops_cuda {
namespace mixer {
namespace {

/// A tile as a thread sees it.
struct View {
  const uint16_t* dy = nullptr;  // its branch's region, its channels
  const uint16_t* x = nullptr;   // the tile's own pixels, its channels
  Way way;
  int pitch = 0;  // rows of x
  int step = 0;   // the pixels of a walker in x

  [[nodiscard]] __device__ __forceinline__ int centre_at(const Walk& walk) const {
    return walk.row * pitch + walk.column * 3 * way.chunk;
  }
};

/// The sums of all walkers of a thread: Σ x[q] · dy[q + tap − half].
template <int kTaps, int kBand, typename Products>
__device__ __forceinline__ void add_sums(Sums<kBand>& sums, const View& view, const Place& place,
                                         const Role& role, const Products& products) {
  const int num = num_walkers(place, role.branch);
#pragma unroll 1
  for (int walker = role.slot; walker < num; walker += role.num_slots) {
    const Walk walk = walk_of(place, role.branch, walker);
    float x[kOutputs][2];
    const uint16_t* p = view.x + view.centre_at(walk);
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      load_channels(x[r], p);
      p += view.step;
    }
    products(walk, [&](int r, int tap, const float(&v)[2]) {
      fma_channels(sums.taps[tap], x[r], v);
      if (tap != kTaps / 2) return;  // dy where output r is
      sums.bias[0] += v[0];
      sums.bias[1] += v[1];
    });
  }
}

template <int kBand>
__device__ __forceinline__ void walk_tile(Sums<kBand>& sums, const View& view, const Place& place,
                                          const Role& role) {
  if (role.branch == kSquare) {
    const auto products = [&](const Walk& walk, const auto& use) {
      for_square_products(view.dy + view.way.at(walk), view.way.pitch, view.way.chunk, use);
    };
    add_sums<9>(sums, view, place, role, products);
  } else {
    const auto products = [&](const Walk& walk, const auto& use) {
      for_line_products<kBand>(view.dy + view.way.at(walk), view.way.step, use);
    };
    add_sums<kBand>(sums, view, place, role, products);
  }
}

/// Begins to copy the tile's pixels of the three branches, [rows][columns][3 · chunk]: neighbours
/// in memory where a chunk is a branch, so that a pixel's slices share sectors.
template <int kPiece>
__device__ __forceinline__ void stage_centre(uint16_t* region, const uint16_t* x,
                                             const ImageSizes& sizes, const Cut& cut,
                                             const Place& place, int num_channels, int branch) {
  const int in_branch = num_channels / kPiece;
  const int pieces = 3 * in_branch;
  const int num_lanes = kMixerThreads / pieces;
  const int lane = static_cast<int>(threadIdx.x) / pieces;
  const int piece = static_cast<int>(threadIdx.x) - lane * pieces;
  const int branch_idx = piece / in_branch;
  const int within = (piece - branch_idx * in_branch) * kPiece;
  if (lane >= num_lanes) return;
  const int chunk = cut.chunk_channels;
  uint16_t* to = region + branch_idx * chunk + within;
  const uint16_t* from = x + branch_idx * branch + within;
#pragma unroll 2
  for (int i = lane; i < kOutputs * cut.tile_columns; i += num_lanes) {
    const int row_in = quotient(i, cut.by_columns);
    const int column_in = i - row_in * cut.tile_columns;
    const bool exists = row_in < place.rows && column_in < place.columns;
    const int pixel = (place.first_row + row_in) * sizes.width + place.first_column + column_in;
    copy_piece<kPiece>(to + i * 3 * chunk, from + (exists ? pixel * sizes.channels : 0), exists);
  }
}

template <int kBand>
__global__ void __launch_bounds__(kMixerThreads, 3)
    mixer_dw_kernel(MixerBackwardArgs args, Cut cut) {
  extern __shared__ __align__(16) uint16_t mixer_regions[];
  const ImageSizes& sizes = args.forward.sizes;
  const int branch = args.forward.branch;
  const auto* x = static_cast<const uint16_t*>(args.forward.x);
  const auto* dy = static_cast<const uint16_t*>(args.dy);
  const Chunk chunk = chunk_of(cut, branch);
  const Role role = role_of_thread(chunk, threadIdx.x);
  const int num_kept = sizes.channels - 3 * branch;
  const int in_branch = chunk.first + role.within;
  View view;
  view.way = way_of<kBand>(cut, role.branch);
  view.pitch = cut.tile_columns * 3 * cut.chunk_channels;
  view.step = role.branch == kBandW ? 3 * cut.chunk_channels : view.pitch;
  view.dy = mixer_regions + view.way.region + role.within;
  view.x = mixer_regions + all_elements<kBand>(cut) +
           static_cast<int>(role.branch) * cut.chunk_channels + role.within;
  Sums<kBand> sums = {};
#pragma unroll 1
  for (int tile = static_cast<int>(blockIdx.x); tile < cut.num_tiles;
       tile += static_cast<int>(gridDim.x)) {
    const Place place = place_of(sizes, cut, tile);
    const int64_t first = place.image_at + num_kept + chunk.first;
    for_piece(cut.piece, [&](auto piece) {
      uint16_t* x_region =
          stage_branches<piece.value>(mixer_regions, dy + first, sizes, cut, place, chunk.count,
                                      branch, [](Branch b) { return halo_of<kBand>(b); });
      stage_centre<piece.value>(x_region, x + first, sizes, cut, place, chunk.count, branch);
    });
    prims::cp_async_commit();
    prims::cp_async_wait<0>();
    __syncthreads();
    if (role.is_active) walk_tile(sums, view, place, role);
    __syncthreads();  // before the next tile is copied over this one
  }
  const int64_t num_sums = kSquareSums + 2 * (kBand + 1);
  write_partials<kBand>(sums, role, {chunk.count / 2, branch, in_branch},
                        reinterpret_cast<float*>(mixer_regions),
                        args.workspace + blockIdx.x * num_sums * branch, [] { __syncthreads(); });
}

template <int kBand>
void launch_dw(const MixerBackwardArgs& args, CUstream_st* stream) {
  const Cut cut = cut_of(args.forward, {args.forward.x, args.dy});
  const int centre = region_elements(cut.tile_columns, 3 * cut.chunk_channels, Halo{});
  const int tile_bytes = (all_elements<kBand>(cut) + centre) * static_cast<int>(sizeof(uint16_t));
  const int sums_bytes = (kBand + 1) * 2 * kMixerThreads * static_cast<int>(sizeof(float));
  const int shared_bytes = std::max(tile_bytes, sums_bytes);
  COMET_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(mixer_dw_kernel<kBand>),
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  const int num_ctas = std::min(cut.num_tiles, std::max(1, kMaxPartials / cut.num_chunks));
  const dim3 grid(static_cast<unsigned>(num_ctas), static_cast<unsigned>(cut.num_chunks));
  mixer_dw_kernel<kBand>
      <<<grid, kMixerThreads, static_cast<size_t>(shared_bytes), stream>>>(args, cut);
  COMET_CUDA(cudaGetLastError());
  add_partials(args, num_ctas, {}, stream);
}

}  // namespace

int64_t sums_of(const MixerArgs& forward) {
  return (kSquareSums + 2 * (int64_t{forward.band} + 1)) * forward.branch;
}

void add_partials(const MixerBackwardArgs& args, int64_t num_rows, const Arrivals& arrivals,
                  CUstream_st* stream) {
  const int64_t branch = args.forward.branch;
  const int64_t band = args.forward.band;
  launch_sum_partials({{args.square.weight, 9 * branch},
                       {args.square.bias, branch},
                       {args.band_w.weight, band * branch},
                       {args.band_w.bias, branch},
                       {args.band_h.weight, band * branch},
                       {args.band_h.bias, branch}},
                      args.workspace, num_rows, arrivals, stream);
}

}  // namespace mixer

size_t mixer_backward_workspace(const MixerArgs& forward) {
  return static_cast<size_t>(mixer::sums_of(forward) * mixer::kMaxPartials);
}

void launch_inception_mixer_backward(const MixerBackwardArgs& args, CUstream_st* stream) {
  if (is_empty(args.forward.sizes)) return;
  const bool has_pairs =
      args.forward.branch > 0 && mixer::piece_of({args.forward.sizes.channels, args.forward.branch},
                                                 {args.forward.x, args.dy, args.dx}) > 1;
  const bool is_band = args.forward.band == 11 || args.forward.band == 9;
  if (!has_pairs || !is_band) return mixer::launch_any_backward(args, stream);
  if (mixer::launch_images_backward(args, stream)) return;
  if (mixer::launch_stream_backward(args, stream)) return;
  if (mixer::launch_rows_backward(args, stream)) return;
  MixerArgs transposed = args.forward;
  transposed.out = args.dx;
  transposed.x = args.dy;
  mixer::launch_transposed(transposed, stream);
  if (args.forward.band == 11) return mixer::launch_dw<11>(args, stream);
  mixer::launch_dw<9>(args, stream);
}

}  // namespace comet::ops_cuda
