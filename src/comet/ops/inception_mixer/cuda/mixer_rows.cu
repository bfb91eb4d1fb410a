// The mixer for launches of many tiles: a CTA takes 7 whole rows of an image, all channels, which
// lie in memory as one block: it comes by 16-byte copies, the branches change it in shared memory,
// and it goes as 16-byte stores, so that no sector is read or written in parts (slices of 12 of 96
// channels touch two sectors for 24 bytes). kFlip: out += the transposed mixer of x, for gradients.
// Grid: x → bands of 7 rows. 288 threads, three warps a branch (tile.cuh). Two CTAs on an SM.
// Shared memory: the block [7][width][channels], changed in place | rows above and below it,
// [2 of the square, band − 1 of k×1][width][branch] | outputs of the square and of 1×k, whose
// inputs others still read. 110 KB for all stages of InceptionNeXt-T.
// Floor: as mixer.cu's.
#include <cuda_runtime_api.h>

#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/inception_mixer/cuda/cut.h"
#include "comet/ops/inception_mixer/cuda/kept.cuh"
#include "comet/ops/inception_mixer/cuda/rows.cuh"
#include "comet/ops/inception_mixer/cuda/taps.cuh"

namespace comet::ops_cuda::mixer {
namespace {

constexpr int kMinTiles = 256;         // fewer do not fill the card with two CTAs on an SM
constexpr int kMaxBytes = 112 * 1024;  // of shared memory, two CTAs on an SM

/// out = the first `num` elements of the block; kAdd: the kept channels are added to what is there,
/// the branches' have been.
template <bool kAdd>
__device__ __forceinline__ void store_block(uint16_t* out, const uint16_t* block, int num,
                                            const Divisor& by_channels, int num_kept) {
  constexpr int kBatch = 4;
  constexpr int kStep = kMixerThreads * 8;
  for (int first = static_cast<int>(threadIdx.x) * 8; first < num; first += kBatch * kStep) {
    Bits<8> old[kBatch];
    int num_added[kBatch] = {};
    if constexpr (kAdd) {
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int at = first + i * kStep;
        num_added[i] = num_kept - (at - quotient(at, by_channels) * by_channels.divisor);
        if (at < num && num_added[i] > 0) old[i] = load_bits<8>(out + at);
      }
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int at = first + i * kStep;
      if (at >= num) continue;
      Bits<8> bits = load_bits<8>(block + at);
      if constexpr (kAdd) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          if (2 * j < num_added[i]) bits.v[j] = add_pair(bits.v[j], old[i].v[j]);
        }
      }
      store_bits<8>(out + at, bits);
    }
  }
}

template <int kBand, bool kFlip>
__global__ void __launch_bounds__(kMixerThreads, 2) rows_kernel(MixerArgs args, RowsCut cut) {
  extern __shared__ __align__(16) uint16_t mixer_block[];
  const ImageSizes& sizes = args.sizes;
  const int branch = args.branch;
  const int image = static_cast<int>(blockIdx.x) / cut.bands_per_image;
  const int first_row = (static_cast<int>(blockIdx.x) - image * cut.bands_per_image) * kOutputs;
  const int rows = min(kOutputs, sizes.height - first_row);
  const int row_elements = sizes.width * sizes.channels;
  const int num_kept = sizes.channels - 3 * branch;
  const int64_t image_at = static_cast<int64_t>(image) * sizes.height * row_elements;
  const int64_t block_at = image_at + first_row * row_elements;
  const auto* x = static_cast<const uint16_t*>(args.x);
  const int num = rows * row_elements;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x) * 8; i < kOutputs * row_elements;
       i += kMixerThreads * 8) {
    prims::cp_async_16_or_zero(mixer_block + i, x + block_at + (i < num ? i : 0), i < num);
  }
  for_piece(cut.piece, [&](auto piece) {
    stage_halos<kBand, piece.value>(mixer_block + cut.halo_at, x + image_at + num_kept, sizes, cut,
                                    first_row, branch);
  });
  prims::cp_async_commit();
  const Role role = role_of_thread({0, branch});
  const Taps<kBand> taps = load_taps<kBand, kFlip>(
      weights_of(args, role.branch), role.branch == kSquare ? 9 : kBand, branch, role.within);
  prims::cp_async_wait<0>();
  __syncthreads();
  const int own = num_kept + static_cast<int>(role.branch) * branch + role.within;
  uint16_t* block = mixer_block + own;
  const int halo_at = cut.halo_at + (role.branch == kBandH ? 2 * sizes.width * branch : 0);
  const Ground ground{block, mixer_block + halo_at + role.within, sizes.width, sizes.channels,
                      branch};
  const bool is_band_w = role.branch == kBandW;
  const int num_walkers = is_band_w ? rows * cut.segments : sizes.width;
  uint16_t* held = mixer_block + (is_band_w ? cut.band_w_at : cut.square_at) + role.within;
  auto* out = static_cast<uint16_t*>(args.out) + block_at;
  const int step = is_band_w ? sizes.channels : row_elements;
  const auto word = [](auto* p) { return reinterpret_cast<uint32_t*>(p); };
  const auto walk = [&](int walker) {
    return walk_of(cut, role.branch, walker, rows, sizes.width);
  };
  const auto at_of = [&](const Walk& w) {
    return (w.row * sizes.width + w.column) * sizes.channels;
  };
  const auto old = [&](int walker, int r) -> uint32_t {
    const Walk w = walk(walker);
    return r < w.num_outputs ? *word(out + own + at_of(w) + r * step) : 0;
  };
  const auto hold = [&](int walker, int r, uint32_t bits) {
    *word(held + (r * num_walkers + walker) * branch) = bits;
  };
  if (role.is_active && role.branch == kSquare) {
    make_outputs<kBand, kFlip>(
        taps, role, num_walkers,
        [&](int walker, const auto& use) { walk_square(ground, walker, use); }, old, hold);
  } else if (role.is_active && is_band_w) {
    make_outputs<kBand, kFlip>(
        taps, role, num_walkers,
        [&](int walker, const auto& use) {
          const Walk w = walk(walker);
          walk_line<kBand, true>(ground, w.row, w.column, use);
        },
        old, hold);
  } else if (role.is_active) {  // nobody else reads a walker's column of k×1
    make_outputs<kBand, kFlip>(
        taps, role, num_walkers,
        [&](int walker, const auto& use) { walk_line<kBand, false>(ground, 0, walker, use); }, old,
        [&](int walker, int r, uint32_t bits) {
          *word(block + r * step + walker * sizes.channels) = bits;
        });
  }
  __syncthreads();
  if (role.is_active && role.branch != kBandH) {
#pragma unroll 1
    for (int walker = role.slot; walker < num_walkers; walker += role.num_slots) {
      const Walk w = walk(walker);
      uint16_t* to = block + at_of(w);
#pragma unroll
      for (int r = 0; r < kOutputs; ++r) {
        const uint32_t bits = *word(held + (r * num_walkers + walker) * branch);
        if (r < w.num_outputs) *word(to + r * step) = bits;
      }
    }
  }
  __syncthreads();
  store_block<kFlip>(out, mixer_block, num, cut.by_channels, num_kept);
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
  cut.halo_at = kOutputs * sizes.width * sizes.channels;
  cut.square_at = cut.halo_at + whole((args.band + 1) * sizes.width * args.branch);
  cut.band_w_at = cut.square_at + whole(kOutputs * sizes.width * args.branch);
  cut.by_channels = {sizes.channels, 1.0F / static_cast<float>(sizes.channels)};
  cut.by_width = {sizes.width, 1.0F / static_cast<float>(sizes.width)};
  return cut;
}

template <int kBand, bool kFlip>
void launch_band(const MixerArgs& args, const RowsCut& cut, int shared_bytes, CUstream_st* stream) {
  const auto kernel = rows_kernel<kBand, kFlip>;
  COMET_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  kernel<<<static_cast<unsigned>(cut.num_tiles), kMixerThreads, static_cast<size_t>(shared_bytes),
           stream>>>(args, cut);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace

bool launch_rows(const MixerArgs& args, bool is_transposed, CUstream_st* stream) {
  const ImageSizes& sizes = args.sizes;
  constexpr int kMaxBranch = 2 * kBranchThreads;
  if (piece_of({sizes.channels}, {args.x, args.out}) < 8 || args.branch > kMaxBranch) return false;
  if (int64_t{kOutputs} * sizes.width * sizes.channels * 2 > kMaxBytes) return false;
  const RowsCut cut = rows_cut_of(args);
  if (cut.num_tiles < kMinTiles) return false;
  int device = 0;
  int most_bytes = 0;
  COMET_CUDA(cudaGetDevice(&device));
  COMET_CUDA(cudaDeviceGetAttribute(&most_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  const int elements = cut.band_w_at + kOutputs * kOutputs * cut.segments * args.branch;
  const int shared_bytes = elements * static_cast<int>(sizeof(uint16_t));
  if (shared_bytes > std::min(kMaxBytes, most_bytes)) return false;
  if (args.band == 11) {
    is_transposed ? launch_band<11, true>(args, cut, shared_bytes, stream)
                  : launch_band<11, false>(args, cut, shared_bytes, stream);
  } else {
    is_transposed ? launch_band<9, true>(args, cut, shared_bytes, stream)
                  : launch_band<9, false>(args, cut, shared_bytes, stream);
  }
  return true;
}

}  // namespace comet::ops_cuda::mixer
