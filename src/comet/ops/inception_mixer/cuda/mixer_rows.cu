// The mixer for launches of many tiles (sm_90): a CTA takes bands of 7 whole rows of an image, all
// channels, which lie in memory as one block: a bulk copy brings it, the branches change it in
// shared memory, a bulk copy stores it, so that no sector is read or written in parts and the kept
// channels cost no instruction. Two blocks take turns: one is changed while the copies of the other
// are on their way.
// Grid: one CTA on an SM; a CTA takes bands blockIdx.x, + gridDim.x, …. 576 threads compute, six
// warps a branch (tile.cuh); a lane of one more warp issues the bulk copies, a row each, so that a
// row of the next band but one is on its way as soon as that of a changed one has left.
// Shared memory: two blocks [7][width][channels] | two times the rows above and below a block,
// [2 of the square, band − 1 of k×1][width][branch] | outputs of the square and of 1×k, whose
// inputs others still read | a barrier a block. 202 KB for all stages of InceptionNeXt-T.
// Floor: as mixer.cu's.
#include <algorithm>
#include <utility>

#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/ops/cuda/overlapped_launch.cuh"
#include "comet/ops/inception_mixer/cuda/cut.h"
#include "comet/ops/inception_mixer/cuda/rows.cuh"
#include "comet/ops/inception_mixer/cuda/taps.cuh"

namespace comet::ops_cuda::mixer {
namespace {

constexpr int kMinTiles = 256;  // fewer than two bands on an SM: nothing takes turns
constexpr int kRowsBranchThreads = 192;
constexpr int kRowsThreads = 3 * kRowsBranchThreads;
constexpr int kAllThreads = kRowsThreads + 32;

struct RowsCut {
  int32_t bands_per_image = 0;
  int32_t num_tiles = 0;
  int32_t piece = 0;           // channels that a copy of a halo takes: 2, 4 or 8
  int32_t segments = 0;        // walkers of 1×k in a row
  int32_t block_elements = 0;  // where the parts of shared memory lie, in elements
  int32_t halo_elements = 0;
  int32_t square_at = 0;  // outputs [7][width][branch]
  int32_t band_w_at = 0;  // outputs [7][7 · segments][branch]
  int32_t barriers_at = 0;
  Divisor by_width;
};

/// The thread that issues bulk copies: bands come in order, block by block.
struct Copier {
  uint16_t* out = nullptr;
  const uint16_t* x = nullptr;
  uint16_t* blocks = nullptr;
  uint64_t* full = nullptr;  // a barrier a block
  int block_elements = 0;
  int row_elements = 0;

  [[nodiscard]] __device__ __forceinline__ int64_t at(const Band& band) const {
    return band.image_at + static_cast<int64_t>(band.first_row) * row_elements;
  }
  [[nodiscard]] __device__ __forceinline__ uint32_t row_bytes() const {
    return static_cast<uint32_t>(row_elements) * sizeof(uint16_t);
  }
  __device__ __forceinline__ void expect(const Band& band, int block) const {
    prims::mbarrier_arrive_expect_tx(full + block, static_cast<uint32_t>(band.rows) * row_bytes());
  }
  __device__ __forceinline__ void load_row(const Band& band, int block, int row) const {
    prims::bulk_load(blocks + block * block_elements + row * row_elements,
                     x + at(band) + row * row_elements, row_bytes(), full + block);
  }
  __device__ __forceinline__ void load(const Band& band, int block) const {
    expect(band, block);
    for (int row = 0; row < band.rows; ++row) load_row(band, block, row);
  }
  /// A group a row, and as many of them whatever the band.
  __device__ __forceinline__ void store(const Band& band, int block) const {
#pragma unroll
    for (int row = 0; row < kOutputs; ++row) {
      if (row < band.rows) {
        prims::bulk_store(out + at(band) + row * row_elements,
                          blocks + block * block_elements + row * row_elements, row_bytes());
      }
      prims::bulk_commit();
    }
  }
  /// Loads `next` behind store(): a row as soon as the one that was there has been read.
  template <int... kRows>
  __device__ __forceinline__ void load_behind(const Band& next, int block,
                                              std::integer_sequence<int, kRows...> /*rows*/) const {
    expect(next, block);
    const auto load_one = [&](auto row) {
      prims::bulk_wait_read<kOutputs - 1 - row.value>();
      if (row.value < next.rows) load_row(next, block, row.value);
    };
    (load_one(std::integral_constant<int, kRows>()), ...);
  }
};

/// All outputs of a thread. products(walker, use); put(walker, r, bits of two channels).
template <int kBand, typename Products, typename Put>
__device__ __forceinline__ void make_outputs(const Taps<kBand>& taps, const Role& role, int num,
                                             const Products& products, const Put& put) {
#pragma unroll 1
  for (int walker = role.slot; walker < num; walker += role.num_slots) {
    float sums[kOutputs][2];
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      sums[r][0] = taps.bias[0];
      sums[r][1] = taps.bias[1];
    }
    products(walker,
             [&](int r, int tap, const float(&v)[2]) { fma_channels(sums[r], taps.w[tap], v); });
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) put(walker, r, prims::bf16x2_of(sums[r][0], sums[r][1]));
  }
}

__device__ __forceinline__ uint32_t* word(uint16_t* p) { return reinterpret_cast<uint32_t*>(p); }

/// The threads that compute: the one that copies may still wait for its copies.
__device__ __forceinline__ void sync_computing() { prims::named_barrier_sync(1, kRowsThreads); }

/// Changes a block in place; all threads that compute. block: the thread's first channel; held: the
/// same of the outputs of its branch, which go into the block when nobody reads it any more.
template <int kBand>
__device__ __forceinline__ void change_block(const Taps<kBand>& taps, const Role& role,
                                             const Ground& ground, uint16_t* block, uint16_t* held,
                                             int rows, int segments) {
  const int row_elements = ground.width * ground.channels;
  const bool is_band_w = role.branch == kBandW;
  const int num_walkers = is_band_w ? rows * segments : ground.width;
  const auto walk = [&](int walker) {
    return walk_of_rows(role.branch, walker, segments, rows, ground.width);
  };
  const auto hold = [&](int walker, int r, uint32_t bits) {
    *word(held + (r * num_walkers + walker) * ground.branch) = bits;
  };
  if (role.is_active && role.branch == kSquare) {
    make_outputs<kBand>(
        taps, role, num_walkers,
        [&](int walker, const auto& use) { walk_square(ground, walker, use); }, hold);
  } else if (role.is_active && is_band_w) {
    make_outputs<kBand>(
        taps, role, num_walkers,
        [&](int walker, const auto& use) {
          const Walk w = walk(walker);
          walk_line<kBand, true>(ground, w.row, w.column, use);
        },
        hold);
  } else if (role.is_active) {  // nobody else reads a walker's column of k×1
    make_outputs<kBand>(
        taps, role, num_walkers,
        [&](int walker, const auto& use) { walk_line<kBand, false>(ground, 0, walker, use); },
        [&](int walker, int r, uint32_t bits) {
          *word(block + r * row_elements + walker * ground.channels) = bits;
        });
  }
  sync_computing();
  if (!role.is_active || role.branch == kBandH) return;
  const int step = is_band_w ? ground.channels : row_elements;
#pragma unroll 1
  for (int walker = role.slot; walker < num_walkers; walker += role.num_slots) {
    const Walk w = walk(walker);
    uint16_t* to = block + (w.row * ground.width + w.column) * ground.channels;
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      const uint32_t bits = *word(held + (r * num_walkers + walker) * ground.branch);
      if (r < w.num_outputs) *word(to + r * step) = bits;
    }
  }
}

/// Zeros behind the last row of an image, which walks read. All threads that compute.
__device__ __forceinline__ void clear_rows(uint16_t* block, int first, int end) {
  for (int i = first + static_cast<int>(threadIdx.x) * 8; i < end; i += kRowsThreads * 8) {
    *reinterpret_cast<uint4*>(block + i) = make_uint4(0, 0, 0, 0);
  }
  sync_computing();
}

template <int kBand>
__global__ void __launch_bounds__(kAllThreads, 1) rows_kernel(MixerArgs args, RowsCut cut) {
  extern __shared__ __align__(128) uint16_t mixer_blocks[];
  const ImageSizes& sizes = args.sizes;
  const int branch = args.branch;
  const int num_kept = sizes.channels - 3 * branch;
  const auto* x = static_cast<const uint16_t*>(args.x);
  auto* full = reinterpret_cast<uint64_t*>(mixer_blocks + cut.barriers_at);
  const Copier copier{static_cast<uint16_t*>(args.out), x, mixer_blocks, full, cut.block_elements,
                      sizes.width * sizes.channels};
  const int stride = static_cast<int>(gridDim.x);
  const auto band_at = [&](int tile) { return band_of(sizes, cut.bands_per_image, tile); };
  // One warp; its lane is elected where it copies, so that ptxas makes no loop over lanes.
  const bool is_copier = threadIdx.x >= kRowsThreads;
  uint16_t* halos = mixer_blocks + 2 * cut.block_elements;
  const auto stage = [&](int tile, int block) {
    if (tile >= cut.num_tiles) return;
    const Band band = band_at(tile);
    for_piece(cut.piece, [&](auto piece) {
      stage_halos<kBand, piece.value, kRowsThreads>(halos + block * cut.halo_elements,
                                                    x + band.image_at + num_kept, sizes,
                                                    cut.by_width, band.first_row, branch, branch);
    });
    prims::cp_async_commit();
  };
  int tile = static_cast<int>(blockIdx.x);
  if (is_copier && prims::elect_one()) {
    prims::mbarrier_init(full, 1);
    prims::mbarrier_init(full + 1, 1);
    prims::mbarrier_init_fence();
  }
  prims::wait_for_previous_kernel();
  prims::allow_next_kernel();
  if (is_copier && prims::elect_one()) {
    for (int i = 0; i < 2 && tile + i * stride < cut.num_tiles; ++i) {
      copier.load(band_at(tile + i * stride), i);
    }
  }
  stage(tile, 0);
  const Role role = role_of_thread<kRowsBranchThreads>({0, branch}, threadIdx.x);
  Taps<kBand> taps = {};
  if (role.is_active) {
    taps = load_taps<kBand, false>(weights_of(args, role.branch),
                                   role.branch == kSquare ? 9 : kBand, branch, role.within);
  }
  prims::cp_async_wait<0>();
  __syncthreads();
  const int own = num_kept + static_cast<int>(role.branch) * branch + role.within;
  const int own_halo = role.within + (role.branch == kBandH ? 2 * sizes.width * branch : 0);
  uint16_t* held =
      mixer_blocks + (role.branch == kBandW ? cut.band_w_at : cut.square_at) + role.within;
#pragma unroll 1
  for (int turn = 0; tile < cut.num_tiles; ++turn, tile += stride) {
    const int block_idx = turn & 1;
    stage(tile + stride, block_idx ^ 1);
    const Band band = band_at(tile);
    if (threadIdx.x < kRowsThreads) {
      uint16_t* block = mixer_blocks + block_idx * cut.block_elements;
      prims::mbarrier_wait(full + block_idx, static_cast<uint32_t>(turn >> 1) & 1U);
      if (band.rows < kOutputs) {
        clear_rows(block, band.rows * sizes.width * sizes.channels, cut.block_elements);
      }
      const Ground ground{block + own, halos + block_idx * cut.halo_elements + own_halo,
                          sizes.width, sizes.channels, branch};
      change_block<kBand>(taps, role, ground, block + own, held, band.rows, cut.segments);
      prims::fence_proxy_async();
      prims::cp_async_wait<0>();  // what the next walks read around their block
    }
    __syncthreads();
    if (is_copier && prims::elect_one()) {
      copier.store(band, block_idx);
      if (tile + 2 * stride < cut.num_tiles) {
        copier.load_behind(band_at(tile + 2 * stride), block_idx,
                           std::make_integer_sequence<int, kOutputs>());
      }
    }
  }
}

RowsCut rows_cut_of(const MixerArgs& args) {
  const ImageSizes& sizes = args.sizes;
  const int num_kept = sizes.channels - 3 * args.branch;
  const auto whole = [](int elements) { return (elements + 7) / 8 * 8; };
  RowsCut cut;
  cut.bands_per_image = (sizes.height + kOutputs - 1) / kOutputs;
  cut.num_tiles = sizes.num_images * cut.bands_per_image;
  cut.piece = piece_of({sizes.channels, num_kept, args.branch}, {args.x, args.out});
  cut.segments = (sizes.width + kOutputs - 1) / kOutputs;
  cut.block_elements = kOutputs * sizes.width * sizes.channels;
  cut.halo_elements = whole((args.band + 1) * sizes.width * args.branch);
  cut.square_at = 2 * (cut.block_elements + cut.halo_elements);
  cut.band_w_at = cut.square_at + whole(kOutputs * sizes.width * args.branch);
  cut.barriers_at = cut.band_w_at + whole(kOutputs * kOutputs * cut.segments * args.branch);
  cut.by_width = {sizes.width, 1.0F / static_cast<float>(sizes.width)};
  return cut;
}

template <int kBand>
void launch_band(const MixerArgs& args, const RowsCut& cut, int shared_bytes, CUstream_st* stream) {
  const auto kernel = rows_kernel<kBand>;
  COMET_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  const int num_sms = device_attribute(cudaDevAttrMultiProcessorCount);
  const auto num_ctas = static_cast<unsigned>(std::min(cut.num_tiles, num_sms));
  launch_overlapped({dim3(num_ctas), kAllThreads, shared_bytes, stream}, kernel, args, cut);
}

}  // namespace

bool launch_rows(const MixerArgs& args, CUstream_st* stream) {
  const ImageSizes& sizes = args.sizes;
  constexpr int kMaxBranch = 2 * kRowsBranchThreads;
  constexpr int kMaxBlockBytes = 96 * 1024;
  if (piece_of({sizes.channels}, {args.x, args.out}) < 8 || args.branch > kMaxBranch) return false;
  if (int64_t{kOutputs} * sizes.width * sizes.channels * 2 > kMaxBlockBytes) return false;
  if (device_attribute(cudaDevAttrComputeCapabilityMajor) < 9) return false;
  const RowsCut cut = rows_cut_of(args);
  if (cut.num_tiles < kMinTiles) return false;
  const int shared_bytes =
      cut.barriers_at * static_cast<int>(sizeof(uint16_t)) + 2 * static_cast<int>(sizeof(uint64_t));
  if (shared_bytes > device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)) return false;
  if (args.band == 11) {
    launch_band<11>(args, cut, shared_bytes, stream);
  } else {
    launch_band<9>(args, cut, shared_bytes, stream);
  }
  return true;
}

}  // namespace comet::ops_cuda::mixer
