// The mixer for launches of a band of 7 rows or more an SM, of narrow images (sm_90). A CTA takes
// bands of 7 whole rows of an image. Its two streams do not wait for each other: the kept channels
// pass shared memory row by row and leave as soon as they are there; the branches' channels (the
// slices of a band) and the rows around a band come as boxes of images, zeros outside, are walked
// over, and their outputs leave from a place of their own, so that the next slices come while they
// do. Grid: one CTA on an SM, with bands blockIdx.x, + gridDim.x, …. 576 threads walk, six warps a
// branch (tile.cuh); a lane of one warp copies slices, a lane of another kept rows.
// Shared memory: two times the slices [7][width][slice] | two times their outputs | two times the
// rows around a band: one above and one below (for the square), half a kernel above and below (for
// k×1) [rows][width][branch, in pieces] | kept rows [width][kept, in pieces], as many as there is
// room for | barriers. Floor: as mixer.cu's.
#include <algorithm>

#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/image_copy.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/ops/inception_mixer/cuda/band_cut.h"
#include "comet/ops/inception_mixer/cuda/cut.h"
#include "comet/ops/inception_mixer/cuda/rows.cuh"
#include "comet/ops/inception_mixer/cuda/taps.cuh"

namespace comet::ops_cuda::mixer {
namespace {

constexpr int kWalkersOfBranch = 192;
constexpr int kWalkThreads = 3 * kWalkersOfBranch;
constexpr int kWalkWarps = kWalkThreads / 32;
constexpr int kAllThreads = kWalkThreads + 64;
// A tensor copy takes 10 clocks or more for a pixel, whose channels are few in wide images.
constexpr int kMaxWidth = 16;
constexpr int kMaxKeptSlots = 16;
constexpr int kKeptStores = 4;  // of kept rows that may still be read

/// Rows around a band count from the first of them.
struct SlicesCut : BandCut {
  // Where the parts of shared memory lie, and how large they are, in elements.
  int32_t slices_elements = 0;
  int32_t halos_at = 0;
  int32_t halos_elements = 0;
  int32_t kept_at = 0;
  int32_t kept_elements = 0;  // of a row
  int32_t kept_slots = 0;
  int32_t barriers_at = 0;
  int32_t near_bytes = 0;  // the slices and the rows around them
};

struct SlicesMaps {
  CUtensorMap x;
  CUtensorMap x_row;
  CUtensorMap x_half;
  CUtensorMap out;
  CUtensorMap kept;
  CUtensorMap kept_out;
};

struct Shared {
  uint16_t* all;
  const SlicesCut& cut;

  [[nodiscard]] __device__ __forceinline__ uint16_t* slices(int turn) const {
    return all + (turn & 1) * cut.slices_elements;
  }
  [[nodiscard]] __device__ __forceinline__ uint16_t* outputs(int turn) const {
    return all + (2 + (turn & 1)) * cut.slices_elements;
  }
  [[nodiscard]] __device__ __forceinline__ uint16_t* halos(int turn) const {
    return all + cut.halos_at + (turn & 1) * cut.halos_elements;
  }
  [[nodiscard]] __device__ __forceinline__ uint16_t* kept(int slot) const {
    return all + cut.kept_at + slot * cut.kept_elements;
  }
  [[nodiscard]] __device__ __forceinline__ uint64_t* barriers() const {
    return reinterpret_cast<uint64_t*>(all + cut.barriers_at);
  }
  [[nodiscard]] __device__ __forceinline__ uint64_t* full(int turn) const {
    return barriers() + (turn & 1);
  }
  /// All walkers are through with a band.
  [[nodiscard]] __device__ __forceinline__ uint64_t* walked(int turn) const {
    return barriers() + 2 + (turn & 1);
  }
  /// The outputs of the band before the last have left; from a CTA's third band on.
  [[nodiscard]] __device__ __forceinline__ uint64_t* has_room() const { return barriers() + 4; }
  [[nodiscard]] __device__ __forceinline__ uint64_t* kept_full(int slot) const {
    return barriers() + 5 + slot;
  }
  /// One thread.
  __device__ __forceinline__ void init_barriers() const {
    for (int i = 0; i < 2; ++i) {
      prims::mbarrier_init(full(i), 1);
      prims::mbarrier_init(walked(i), kWalkWarps);
    }
    prims::mbarrier_init(has_room(), 1);
    for (int i = 0; i < cut.kept_slots; ++i) prims::mbarrier_init(kept_full(i), 1);
    prims::mbarrier_init_fence();
  }
};

/// A box's place: an image's row, its first channel, which begins a piece.
__device__ __forceinline__ prims::BoxAt4d box_at(int channel, int row, int image) {
  return {channel / 2, 0, row, image};
}

/// A band's place in boxes.
struct BandBox {
  int image = 0;
  int row = 0;
};

__device__ __forceinline__ BandBox box_of(const SlicesCut& cut, int tile) {
  const int image = tile / cut.bands_per_image;
  return {image, (tile - image * cut.bands_per_image) * kOutputs};
}

// ---- Copiers: a lane each

template <int kBand>
__device__ __forceinline__ void load_near(const SlicesMaps& maps, const Shared& shared, int tile,
                                          int turn) {
  constexpr int kHalf = kBand / 2;
  const SlicesCut& cut = shared.cut;
  const auto [image, row] = box_of(cut, tile);
  uint64_t* full = shared.full(turn);
  uint16_t* halos = shared.halos(turn);
  prims::mbarrier_arrive_expect_tx(full, static_cast<uint32_t>(cut.near_bytes));
  prims::tensor_load_4d(shared.slices(turn), &maps.x, box_at(cut.first, row, image), full);
  if (cut.bands_per_image == 1) return;  // nothing is around, and zeros are there
  prims::tensor_load_4d(halos, &maps.x_row, box_at(cut.first, row - 1, image), full);
  prims::tensor_load_4d(halos + cut.square_below, &maps.x_row,
                        box_at(cut.first, row + kOutputs, image), full);
  prims::tensor_load_4d(halos + cut.band_h_at, &maps.x_half,
                        box_at(cut.band_h_first, row - kHalf, image), full);
  prims::tensor_load_4d(halos + cut.band_h_at + cut.band_h_below, &maps.x_half,
                        box_at(cut.band_h_first, row + kOutputs, image), full);
}

template <int kBand>
__device__ __forceinline__ void copy_slices(const SlicesMaps& maps, const Shared& shared) {
  const SlicesCut& cut = shared.cut;
  const auto stride = static_cast<int>(gridDim.x);
  const auto begin = static_cast<int>(blockIdx.x);
  for (int i = 0; i < 2 && begin + i * stride < cut.num_tiles; ++i) {
    load_near<kBand>(maps, shared, begin + i * stride, i);
  }
  int turn = 0;
#pragma unroll 1
  for (int tile = begin; tile < cut.num_tiles; tile += stride, ++turn) {
    prims::mbarrier_wait(shared.walked(turn), static_cast<uint32_t>(turn >> 1) & 1U);
    const auto [image, row] = box_of(cut, tile);
    prims::tensor_store_4d(&maps.out, shared.outputs(turn), box_at(cut.first, row, image));
    prims::bulk_commit();
    prims::bulk_wait_read<1>();
    if (turn > 0) prims::mbarrier_arrive(shared.has_room());
    if (tile + 2 * stride < cut.num_tiles) {
      load_near<kBand>(maps, shared, tile + 2 * stride, turn);
    }
  }
  prims::bulk_wait_read<0>();
}

/// A kept row of the CTA's bands, one after the other.
struct KeptRow {
  int tile = 0;
  int row = 0;

  __device__ __forceinline__ void advance(const SlicesCut& cut, int height) {
    const int first = tile % cut.bands_per_image * kOutputs;
    if (++row < min(kOutputs, height - first)) return;
    row = 0;
    tile += static_cast<int>(gridDim.x);
  }
  [[nodiscard]] __device__ __forceinline__ prims::BoxAt4d box(const SlicesCut& cut) const {
    const auto [image, first] = box_of(cut, tile);
    return box_at(0, first + row, image);
  }
};

__device__ __forceinline__ void copy_kept_rows(const SlicesMaps& maps, const Shared& shared,
                                               int height, uint32_t row_bytes) {
  const SlicesCut& cut = shared.cut;
  KeptRow next{static_cast<int>(blockIdx.x), 0};
  KeptRow at = next;
  const auto load = [&](int slot) {
    if (next.tile >= cut.num_tiles) return;
    uint64_t* full = shared.kept_full(slot);
    prims::mbarrier_arrive_expect_tx(full, row_bytes);
    prims::tensor_load_4d(shared.kept(slot), &maps.kept, next.box(cut), full);
    next.advance(cut, height);
  };
  for (int slot = 0; slot < cut.kept_slots; ++slot) load(slot);
  int slot = 0;
  int free_slot = 0;
  uint32_t parity = 0;
#pragma unroll 1
  for (int i = 0; at.tile < cut.num_tiles; ++i, at.advance(cut, height)) {
    prims::mbarrier_wait(shared.kept_full(slot), parity);
    prims::tensor_store_4d(&maps.kept_out, shared.kept(slot), at.box(cut));
    prims::bulk_commit();
    if (++slot == cut.kept_slots) {
      slot = 0;
      parity ^= 1U;
    }
    if (i < kKeptStores) continue;
    prims::bulk_wait_read<kKeptStores>();
    load(free_slot);
    if (++free_slot == cut.kept_slots) free_slot = 0;
  }
  prims::bulk_wait_read<0>();
}

// ---- Walkers

/// All outputs of a thread. products(walk, use); out: the outputs' first pixel, the thread's first
/// channel; a walker's are `step` elements apart.
template <int kBand, typename Products>
__device__ __forceinline__ void walk_branch(const Taps<kBand>& taps, const Role& role,
                                            const Ground& ground, uint16_t* out, int rows,
                                            int segments, int step, const Products& products) {
  const int num = role.branch == kBandW ? rows * segments : ground.width;
#pragma unroll 1
  for (int walker = role.slot; walker < num; walker += role.num_slots) {
    const Walk walk = walk_of_rows(role.branch, walker, segments, rows, ground.width);
    float sums[kOutputs][2];
    walker_sums(sums, taps, [&](const auto& use) { products(walk, use); });
    uint16_t* to = out + (walk.row * ground.width + walk.column) * ground.channels;
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      if (r < walk.num_outputs) *word(to + r * step) = prims::bf16x2_of(sums[r][0], sums[r][1]);
    }
  }
}

template <int kBand>
__device__ __forceinline__ void walk_band(const Taps<kBand>& taps, const Role& role,
                                          const Ground& ground, uint16_t* out, int rows,
                                          int segments) {
  with_walks<kBand>(role.branch, ground, [&](int step, const auto& products) {
    walk_branch<kBand>(taps, role, ground, out, rows, segments, step, products);
  });
}

template <int kBand>
__device__ __forceinline__ void walk_all(const MixerArgs& args, const Shared& shared) {
  const SlicesCut& cut = shared.cut;
  const ImageSizes& sizes = args.sizes;
  const int branch = args.branch;
  const int skip = sizes.channels - 3 * branch - cut.first;  // kept channels in the slices
  const Role role = role_of_thread<kWalkersOfBranch>({0, branch}, threadIdx.x);
  Taps<kBand> taps = {};
  if (role.is_active) {
    taps = load_taps<kBand, false>(weights_of(args, role.branch),
                                   role.branch == kSquare ? 9 : kBand, branch, role.within);
  }
  const bool is_band_h = role.branch == kBandH;
  const int own = skip + static_cast<int>(role.branch) * branch + role.within;
  const int own_halo = role.within + (is_band_h ? cut.band_h_at + cut.band_h_skip : skip);
  const auto stride = static_cast<int>(gridDim.x);
  int turn = 0;
#pragma unroll 1
  for (int tile = static_cast<int>(blockIdx.x); tile < cut.num_tiles; tile += stride, ++turn) {
    const int rows = min(kOutputs, sizes.height - box_of(cut, tile).row);
    uint16_t* slices = shared.slices(turn);
    uint16_t* out = shared.outputs(turn);
    prims::mbarrier_wait(shared.full(turn), static_cast<uint32_t>(turn >> 1) & 1U);
    if (turn > 1) prims::mbarrier_wait(shared.has_room(), static_cast<uint32_t>(turn) & 1U);
    for (int channel = 0; channel < skip; channel += 2) {
      for (auto i = static_cast<int>(threadIdx.x); i < kOutputs * sizes.width; i += kWalkThreads) {
        *word(out + i * cut.slice + channel) = *word(slices + i * cut.slice + channel);
      }
    }
    if (role.is_active) {
      const Ground ground{slices + own,   shared.halos(turn) + own_halo,
                          sizes.width,    cut.slice,
                          cut.halo_slice, is_band_h ? cut.band_h_gap : cut.square_gap};
      walk_band<kBand>(taps, role, ground, out + own, rows, cut.segments);
    }
    prims::fence_proxy_async();
    __syncwarp();
    if (threadIdx.x % 32 == 0) prims::mbarrier_arrive(shared.walked(turn));
  }
}

/// Where a band is all of an image, what lies around it stays zero. All threads.
__device__ __forceinline__ void clear_halos(const Shared& shared) {
  auto* halos = reinterpret_cast<uint4*>(shared.halos(0));
  const int num = 2 * shared.cut.halos_elements / kPieceChannels;
  for (auto i = static_cast<int>(threadIdx.x); i < num; i += kAllThreads) {
    halos[i] = make_uint4(0, 0, 0, 0);
  }
}

template <int kBand>
__global__ void __launch_bounds__(kAllThreads, 1)
    slices_kernel(const MixerArgs args, const __grid_constant__ SlicesCut cut,
                  const __grid_constant__ SlicesMaps maps) {
  extern __shared__ __align__(128) uint16_t mixer_slices[];
  const Shared shared{mixer_slices, cut};
  const bool copies_slices = threadIdx.x >= kWalkThreads && threadIdx.x < kWalkThreads + 32;
  if (copies_slices && prims::elect_one()) shared.init_barriers();
  if (cut.bands_per_image == 1) clear_halos(shared);
  __syncthreads();
  prims::wait_for_previous_kernel();
  prims::allow_next_kernel();
  if (copies_slices) {
    if (prims::elect_one()) copy_slices<kBand>(maps, shared);
  } else if (threadIdx.x >= kWalkThreads) {
    if (cut.first > 0 && prims::elect_one()) {
      copy_kept_rows(maps, shared, args.sizes.height,
                     static_cast<uint32_t>(args.sizes.width * cut.first) * sizeof(uint16_t));
    }
  } else {
    walk_all<kBand>(args, shared);
  }
}

SlicesCut slices_cut_of(const MixerArgs& args, int shared_bytes) {
  const ImageSizes& sizes = args.sizes;
  SlicesCut cut{band_cut_of(args)};
  const int slices = slice_elements(sizes, cut);
  place_around(cut, args, 0);
  cut.slices_elements = whole_box(slices);
  cut.halos_at = 4 * cut.slices_elements;
  cut.halos_elements = cut.around_elements();
  cut.kept_at = cut.halos_at + 2 * cut.halos_elements;
  cut.kept_elements = whole_box(sizes.width * cut.first);
  const int barriers = (5 + kMaxKeptSlots) * 4;
  const int room = shared_bytes / 2 - cut.kept_at - barriers;
  if (cut.first > 0) cut.kept_slots = std::clamp(room / cut.kept_elements, 0, kMaxKeptSlots);
  cut.barriers_at = cut.kept_at + cut.kept_slots * cut.kept_elements;
  const int rows_around = cut.bands_per_image == 1 ? 0 : 2 * (args.band / 2 + 1);
  cut.near_bytes =
      (slices + rows_around * sizes.width * cut.halo_slice) * static_cast<int>(sizeof(uint16_t));
  return cut;
}

int shared_bytes_of(const SlicesCut& cut) {
  return cut.barriers_at * static_cast<int>(sizeof(uint16_t)) +
         (5 + cut.kept_slots) * static_cast<int>(sizeof(uint64_t));
}

SlicesMaps maps_of(const MixerArgs& args, const SlicesCut& cut) {
  const auto map = [&](const void* data, int box_channels, int box_rows) {
    return box_map_of(args.sizes, data, box_channels, box_rows);
  };
  SlicesMaps maps{map(args.x, cut.slice, kOutputs),
                  map(args.x, cut.halo_slice, 1),
                  map(args.x, cut.halo_slice, args.band / 2),
                  map(args.out, cut.slice, kOutputs),
                  {},
                  {}};
  if (cut.first > 0) {
    maps.kept = map(args.x, cut.first, 1);
    maps.kept_out = map(args.out, cut.first, 1);
  }
  return maps;
}

template <int kBand>
void launch_band(const MixerArgs& args, const SlicesCut& cut, CUstream_st* stream) {
  const auto kernel = slices_kernel<kBand>;
  const int shared_bytes = shared_bytes_of(cut);
  COMET_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  const int num_sms = device_attribute(cudaDevAttrMultiProcessorCount);
  const auto num_ctas = static_cast<unsigned>(std::min(cut.num_tiles, num_sms));
  launch_overlapped({dim3(num_ctas), kAllThreads, shared_bytes, stream}, kernel, args, cut,
                    maps_of(args, cut));
}

/// Boxes can be described (image_map.h).
bool has_boxes(const MixerArgs& args) {
  const ImageSizes& sizes = args.sizes;
  const int num_kept = sizes.channels - 3 * args.branch;
  if (piece_of({sizes.channels}, {args.x, args.out}) < kPieceChannels) return false;
  constexpr int kMaxBox = 256;  // pairs of channels
  const int first = num_kept / kPieceChannels * kPieceChannels;
  return sizes.width <= kMaxWidth && first <= 2 * kMaxBox && sizes.channels - first <= 2 * kMaxBox;
}

}  // namespace

bool launch_slices(const MixerArgs& args, CUstream_st* stream) {
  if (!runs_sm90_code()) return false;
  if (args.branch > 2 * kWalkersOfBranch || !has_boxes(args)) return false;
  const int most_bytes = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  const SlicesCut cut = slices_cut_of(args, most_bytes);
  if (!fills_card(cut)) return false;
  if (cut.first > 0 && cut.kept_slots <= kKeptStores) return false;
  if (shared_bytes_of(cut) > most_bytes) return false;
  if (args.band == 11) {
    launch_band<11>(args, cut, stream);
  } else {
    launch_band<9>(args, cut, stream);
  }
  return true;
}

}  // namespace comet::ops_cuda::mixer
