// The mixer for launches of many tiles (sm_90): a CTA takes bands of 7 whole rows of an image, all
// channels, which lie in memory as one block: a bulk copy a row brings it, the branches change it
// in shared memory, a bulk copy a row stores it, so that no sector is read or written in parts and
// the kept channels cost no instruction. Two blocks take turns: one is changed while the copies of
// the other are on their way.
// Grid: one CTA on an SM; a CTA takes bands blockIdx.x, + gridDim.x, …. 18 warps walk, six a branch
// (tile.cuh), a thread two walkers of a band at most, whose outputs it holds until its branch has
// read its inputs; two warps stage the rows around bands; a lane of one more issues the bulk
// copies: a row of the next band but one is on its way as soon as that of a changed one has left.
// Shared memory: two blocks [7][width][channels] | two times the rows above and below a block,
// [2 of the square, band − 1 of k×1][width][branch] | barriers. 183 KB for all stages of
// InceptionNeXt-T. Floor: as mixer.cu's.
#include <algorithm>
#include <utility>

#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/ops/inception_mixer/cuda/cut.h"
#include "comet/ops/inception_mixer/cuda/rows.cuh"
#include "comet/ops/inception_mixer/cuda/taps.cuh"

namespace comet::ops_cuda::mixer {
namespace {

constexpr int kMinTiles = 256;  // fewer than two bands on an SM: nothing takes turns
constexpr int kRowsBranchThreads = 192;
constexpr int kRowsThreads = 3 * kRowsBranchThreads;
constexpr int kStageThreads = 64;
constexpr int kAllThreads = kRowsThreads + kStageThreads + 32;

struct RowsCut {
  int32_t bands_per_image = 0;
  int32_t num_tiles = 0;
  int32_t piece = 0;           // channels that a copy of a halo takes: 2, 4 or 8
  int32_t segments = 0;        // walkers of 1×k in a row
  int32_t block_elements = 0;  // where the parts of shared memory lie, in elements
  int32_t halo_elements = 0;
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

/// The threads of a branch, whose walkers read what others of them will change.
__device__ __forceinline__ void sync_branch(Branch branch) {
  prims::named_barrier_sync(1 + static_cast<uint32_t>(branch), kRowsBranchThreads);
}

/// Changes a block in place; the threads of one branch, two walkers each: nobody else reads its
/// channels. block: the thread's first channel.
template <int kBand, typename Products>
__device__ __forceinline__ void change_branch(const Taps<kBand>& taps, const Role& role,
                                              const Ground& ground, uint16_t* block, int rows,
                                              int segments, int step, const Products& products) {
  constexpr int kRounds = 2;
  const int num = role.branch == kBandW ? rows * segments : ground.width;
  uint32_t out[kRounds][kOutputs];
#pragma unroll
  for (int i = 0; i < kRounds; ++i) {
    const int walker = role.slot + i * role.num_slots;
    if (!role.is_active || walker >= num) continue;
    const Walk walk = walk_of_rows(role.branch, walker, segments, rows, ground.width);
    float sums[kOutputs][2];
    walker_sums(sums, taps, [&](const auto& use) { products(walk, use); });
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) out[i][r] = prims::bf16x2_of(sums[r][0], sums[r][1]);
  }
  if (role.branch != kBandH) sync_branch(role.branch);  // a walker's column is its own
#pragma unroll
  for (int i = 0; i < kRounds; ++i) {
    const int walker = role.slot + i * role.num_slots;
    if (!role.is_active || walker >= num) continue;
    const Walk walk = walk_of_rows(role.branch, walker, segments, rows, ground.width);
    uint16_t* to = block + (walk.row * ground.width + walk.column) * ground.channels;
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      if (r < walk.num_outputs) *word(to + r * step) = out[i][r];
    }
  }
}

template <int kBand>
__device__ __forceinline__ void change_block(const Taps<kBand>& taps, const Role& role,
                                             const Ground& ground, uint16_t* block, int rows,
                                             int segments) {
  with_walks<kBand>(role.branch, ground, [&](int step, const auto& products) {
    change_branch<kBand>(taps, role, ground, block, rows, segments, step, products);
  });
}

/// All threads that compute.
__device__ __forceinline__ void sync_computing() { prims::named_barrier_sync(4, kRowsThreads); }

/// Zeros behind the last row of an image, which walks read. All threads that compute.
__device__ __forceinline__ void clear_rows(uint16_t* block, int first, int end) {
  for (int i = first + static_cast<int>(threadIdx.x) * 8; i < end; i += kRowsThreads * 8) {
    *reinterpret_cast<uint4*>(block + i) = make_uint4(0, 0, 0, 0);
  }
  sync_computing();
}

/// A CTA's barriers: a band's block and the rows around it are there; its walkers are through.
struct Barriers {
  uint64_t* first;

  [[nodiscard]] __device__ __forceinline__ uint64_t* full(int turn) const {
    return first + (turn & 1);
  }
  [[nodiscard]] __device__ __forceinline__ uint64_t* around(int turn) const {
    return first + 2 + (turn & 1);
  }
  [[nodiscard]] __device__ __forceinline__ uint64_t* walked(int turn) const {
    return first + 4 + (turn & 1);
  }
  /// One thread.
  __device__ __forceinline__ void init() const {
    for (int i = 0; i < 2; ++i) {
      prims::mbarrier_init(full(i), 1);
      prims::mbarrier_init(around(i), kStageThreads / 32);
      prims::mbarrier_init(walked(i), kRowsThreads / 32);
    }
    prims::mbarrier_init_fence();
  }
  /// Of the turn-th wait for one of them.
  static __device__ __forceinline__ uint32_t parity(int turn) {
    return static_cast<uint32_t>(turn >> 1) & 1U;
  }
};
constexpr int kNumBarriers = 6;

/// One lane.
__device__ __forceinline__ void copy_blocks(const Copier& copier, const Barriers& barriers,
                                            const MixerArgs& args, const RowsCut& cut) {
  const auto stride = static_cast<int>(gridDim.x);
  const auto band_at = [&](int tile) { return band_of(args.sizes, cut.bands_per_image, tile); };
  auto tile = static_cast<int>(blockIdx.x);
  for (int i = 0; i < 2 && tile + i * stride < cut.num_tiles; ++i) {
    copier.load(band_at(tile + i * stride), i);
  }
#pragma unroll 1
  for (int turn = 0; tile < cut.num_tiles; ++turn, tile += stride) {
    prims::mbarrier_wait(barriers.walked(turn), Barriers::parity(turn));
    copier.store(band_at(tile), turn & 1);
    if (tile + 2 * stride < cut.num_tiles) {
      copier.load_behind(band_at(tile + 2 * stride), turn & 1,
                         std::make_integer_sequence<int, kOutputs>());
    }
  }
  prims::bulk_wait_read<0>();
}

/// The warps that copy the rows around bands, two bands ahead of the walkers at most.
template <int kBand>
__device__ __forceinline__ void stage_around(const MixerArgs& args, const RowsCut& cut,
                                             uint16_t* halos, const Barriers& barriers) {
  const auto stride = static_cast<int>(gridDim.x);
  const auto* x = static_cast<const uint16_t*>(args.x) + args.sizes.channels - 3 * args.branch;
  int turn = 0;
#pragma unroll 1
  for (auto tile = static_cast<int>(blockIdx.x); tile < cut.num_tiles; ++turn, tile += stride) {
    if (turn > 1) prims::mbarrier_wait(barriers.walked(turn), Barriers::parity(turn - 2));
    const Band band = band_of(args.sizes, cut.bands_per_image, tile);
    for_piece(cut.piece, [&](auto piece) {
      stage_halos<kBand, piece.value, kStageThreads>(
          halos + (turn & 1) * cut.halo_elements, x + band.image_at, args.sizes, cut.by_width,
          band.first_row, args.branch, args.branch, static_cast<int>(threadIdx.x) - kRowsThreads);
    });
    prims::cp_async_commit();
    prims::cp_async_wait<0>();
    __syncwarp();
    if (threadIdx.x % 32 == 0) prims::mbarrier_arrive(barriers.around(turn));
  }
}

template <int kBand>
__device__ __forceinline__ void walk_blocks(const MixerArgs& args, const RowsCut& cut,
                                            uint16_t* blocks, const Barriers& barriers) {
  const ImageSizes& sizes = args.sizes;
  const int branch = args.branch;
  const int num_kept = sizes.channels - 3 * branch;
  const Role role = role_of_thread<kRowsBranchThreads>({0, branch}, threadIdx.x);
  Taps<kBand> taps = {};
  if (role.is_active) {
    taps = load_taps<kBand, false>(weights_of(args, role.branch),
                                   role.branch == kSquare ? 9 : kBand, branch, role.within);
  }
  const uint16_t* halos = blocks + 2 * cut.block_elements;
  const int own = num_kept + static_cast<int>(role.branch) * branch + role.within;
  const int own_halo = role.within + (role.branch == kBandH ? 2 * sizes.width * branch : 0);
  const auto stride = static_cast<int>(gridDim.x);
  int turn = 0;
#pragma unroll 1
  for (auto tile = static_cast<int>(blockIdx.x); tile < cut.num_tiles; ++turn, tile += stride) {
    const int rows = band_of(sizes, cut.bands_per_image, tile).rows;
    uint16_t* block = blocks + (turn & 1) * cut.block_elements;
    prims::mbarrier_wait(barriers.full(turn), Barriers::parity(turn));
    prims::mbarrier_wait(barriers.around(turn), Barriers::parity(turn));
    if (rows < kOutputs) {
      clear_rows(block, rows * sizes.width * sizes.channels, cut.block_elements);
    }
    const Ground ground{block + own, halos + (turn & 1) * cut.halo_elements + own_halo, sizes.width,
                        sizes.channels, branch};
    change_block<kBand>(taps, role, ground, block + own, rows, cut.segments);
    prims::fence_proxy_async();
    __syncwarp();
    if (threadIdx.x % 32 == 0) prims::mbarrier_arrive(barriers.walked(turn));
  }
}

template <int kBand>
__global__ void __launch_bounds__(kAllThreads, 1)
    rows_kernel(const MixerArgs args, const __grid_constant__ RowsCut cut) {
  extern __shared__ __align__(128) uint16_t mixer_blocks[];
  const Barriers barriers{reinterpret_cast<uint64_t*>(mixer_blocks + cut.barriers_at)};
  // One warp; its lane is elected where it copies, so that ptxas makes no loop over lanes.
  const bool is_copier = threadIdx.x >= kRowsThreads + kStageThreads;
  if (is_copier && prims::elect_one()) barriers.init();
  __syncthreads();
  prims::wait_for_previous_kernel();
  prims::allow_next_kernel();
  if (is_copier) {
    const Copier copier{static_cast<uint16_t*>(args.out),
                        static_cast<const uint16_t*>(args.x),
                        mixer_blocks,
                        barriers.first,
                        cut.block_elements,
                        args.sizes.width * args.sizes.channels};
    if (prims::elect_one()) copy_blocks(copier, barriers, args, cut);
  } else if (threadIdx.x >= kRowsThreads) {
    stage_around<kBand>(args, cut, mixer_blocks + 2 * cut.block_elements, barriers);
  } else {
    walk_blocks<kBand>(args, cut, mixer_blocks, barriers);
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
  cut.barriers_at = 2 * (cut.block_elements + cut.halo_elements);
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
  if (!runs_sm90_code()) return false;
  const RowsCut cut = rows_cut_of(args);
  if (cut.num_tiles < kMinTiles) return false;
  const int slots = kRowsBranchThreads / (args.branch / 2);  // two walkers each
  if (std::max(sizes.width, kOutputs * cut.segments) > 2 * slots) return false;
  const int shared_bytes = cut.barriers_at * static_cast<int>(sizeof(uint16_t)) +
                           kNumBarriers * static_cast<int>(sizeof(uint64_t));
  if (shared_bytes > device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)) return false;
  if (args.band == 11) {
    launch_band<11>(args, cut, shared_bytes, stream);
  } else {
    launch_band<9>(args, cut, shared_bytes, stream);
  }
  return true;
}

}  // namespace comet::ops_cuda::mixer
