// Tiles of the Inception mixer: a CTA takes kOutputs rows × tile_columns columns of an image and a
// chunk of every branch's channels. It copies what its branches read into shared memory (cp.async:
// all of it on its way at once, zeros outside of the image), then three warps a branch walk over
// it: a walker makes kOutputs neighbouring outputs of two channels and reads every input once.
// Callers: mixer.cu, mixer_backward.cu.
// Shared memory: regions [rows][columns][chunk channels] of the three branches, one after another.
#pragma once

#include "comet/device/cuda/prims/cp_async.cuh"
#include "comet/ops/cuda/bf16_vectors.cuh"
#include "comet/ops/cuda/divisor.cuh"
#include "comet/ops/cuda/image_tiles.cuh"

namespace comet::ops_cuda::mixer {

constexpr int kOutputs = kTileRows;
constexpr int kBranchThreads = 96;  // 16 × 6, 8 × 12 and 12 × 8 walkers × pairs of channels
constexpr int kMixerThreads = 3 * kBranchThreads;

enum Branch { kSquare, kBandW, kBandH };

/// How a launch is cut: blockIdx.x takes tiles, blockIdx.y a chunk of every branch's channels (and
/// its share of the pixels of the channels that are kept).
/// tile_columns is a multiple of kOutputs.
struct Cut : TileCut {
  int32_t chunk_channels = 0;  // even
  int32_t num_chunks = 0;
  int32_t piece = 0;       // channels that a copy to shared memory takes: 2, 4 or 8
  int32_t kept_piece = 0;  // the same of the channels that are kept
  Divisor by_columns;      // tile_columns
};

/// The pixels of a region: what a branch reads around the tile.
struct Halo {
  int rows = 0;
  int columns = 0;
};

template <int kBand>
__host__ __device__ constexpr Halo halo_of(Branch branch) {
  if (branch == kSquare) return {1, 1};
  return branch == kBandW ? Halo{0, kBand / 2} : Halo{kBand / 2, 0};
}

/// Elements of a region; regions begin 16-byte aligned.
__host__ __device__ constexpr int region_elements(int tile_columns, int chunk, Halo halo) {
  const int count = (kOutputs + 2 * halo.rows) * (tile_columns + 2 * halo.columns) * chunk;
  return (count + 7) / 8 * 8;
}

/// Elements of the regions of the three branches.
template <int kBand>
__host__ __device__ constexpr int all_elements(const Cut& cut) {
  return region_elements(cut.tile_columns, cut.chunk_channels, halo_of<kBand>(kSquare)) +
         region_elements(cut.tile_columns, cut.chunk_channels, halo_of<kBand>(kBandW)) +
         region_elements(cut.tile_columns, cut.chunk_channels, halo_of<kBand>(kBandH));
}

/// This CTA's channels of a branch.
struct Chunk {
  int first = 0;
  int count = 0;
};

__device__ __forceinline__ Chunk chunk_of(const Cut& cut, int branch) {
  const int first = static_cast<int>(blockIdx.y) * cut.chunk_channels;
  return {first, min(cut.chunk_channels, branch - first)};
}

template <int kPiece>
__device__ __forceinline__ void copy_piece(uint16_t* shared, const uint16_t* global, bool exists) {
  if constexpr (kPiece == 8) {
    prims::cp_async_16_or_zero(shared, global, exists);
  } else if constexpr (kPiece == 4) {
    prims::cp_async_8_or_zero(shared, global, exists);
  } else {
    prims::cp_async_4_or_zero(shared, global, exists);
  }
}

template <int kPiece>
__device__ __forceinline__ void copy_existing(uint16_t* shared, const uint16_t* global) {
  if constexpr (kPiece == 8) {
    prims::cp_async_16(shared, global);
  } else if constexpr (kPiece == 4) {
    prims::cp_async_8(shared, global);
  } else {
    prims::cp_async_4(shared, global);
  }
}

template <int kPiece>
struct Piece {
  static constexpr int value = kPiece;
};

/// Calls use(Piece<piece>()); the same piece for all threads.
template <typename Use>
__device__ __forceinline__ void for_piece(int piece, const Use& use) {
  if (piece == 8) {
    use(Piece<8>());
  } else if (piece == 4) {
    use(Piece<4>());
  } else {
    use(Piece<2>());
  }
}

/// Begins to copy a region of x (the image's first pixel, the chunk's first channel). A thread
/// keeps its piece of the channels and takes every num_lanes-th pixel.
template <int kPiece>
__device__ __forceinline__ void stage_region(uint16_t* region, const uint16_t* x,
                                             const ImageSizes& sizes, const Cut& cut,
                                             const Place& place, int num_channels, Halo halo) {
  const int pieces = num_channels / kPiece;
  const int num_lanes = kMixerThreads / pieces;
  const int lane = static_cast<int>(threadIdx.x) / pieces;
  const int within = (static_cast<int>(threadIdx.x) - lane * pieces) * kPiece;
  if (lane >= num_lanes) return;
  const int columns = cut.tile_columns + 2 * halo.columns;
  const Divisor by{columns, __frcp_rn(static_cast<float>(columns))};
  const int num_pixels = (kOutputs + 2 * halo.rows) * columns;
  const int first_row = place.first_row - halo.rows;
  const int first_column = place.first_column - halo.columns;
#pragma unroll 2
  for (int i = lane; i < num_pixels; i += num_lanes) {
    const int row_in = quotient(i, by);
    const int row = first_row + row_in;
    const int column = first_column + i - row_in * columns;
    const bool exists = is_within(row, sizes.height) && is_within(column, sizes.width);
    const int at = exists ? (row * sizes.width + column) * sizes.channels + within : 0;
    copy_piece<kPiece>(region + i * cut.chunk_channels + within, x + at, exists);
  }
}

/// The regions of the three branches. x: the image's first pixel, the chunk's first channel of the
/// first branch; halo(branch) is what they have around the tile. Returns the end of the regions.
template <int kPiece, typename HaloOf>
__device__ __forceinline__ uint16_t* stage_branches(uint16_t* regions, const uint16_t* x,
                                                    const ImageSizes& sizes, const Cut& cut,
                                                    const Place& place, int num_channels,
                                                    int branch, const HaloOf& halo) {
#pragma unroll 1
  for (int b = kSquare; b <= kBandH; ++b) {
    const Halo around = halo(static_cast<Branch>(b));
    stage_region<kPiece>(regions, x + b * branch, sizes, cut, place, num_channels, around);
    regions += region_elements(cut.tile_columns, cut.chunk_channels, around);
  }
  return regions;
}

/// What a thread does: its branch, its pair of the chunk's channels, walkers slot, + num_slots, ….
struct Role {
  Branch branch = kSquare;
  int within = 0;  // first channel of the pair in the chunk
  int slot = 0;
  int num_slots = 0;
  bool is_active = false;
};

/// Threads behind those of the three branches are not active.
template <int kThreadsOfBranch = kBranchThreads>
__device__ __forceinline__ Role role_of_thread(const Chunk& chunk, uint32_t thread) {
  Role role;
  role.branch = static_cast<Branch>(thread / kThreadsOfBranch);
  const int rank = static_cast<int>(thread % kThreadsOfBranch);
  const int pairs = chunk.count / 2;
  role.num_slots = kThreadsOfBranch / pairs;
  role.slot = rank / pairs;
  role.within = (rank - role.slot * pairs) * 2;
  role.is_active = role.slot < role.num_slots && role.branch <= kBandH;
  return role;
}

/// By value: a reference to an argument that is chosen at run time would lie in local memory.
__device__ __forceinline__ KernelWeights weights_of(const MixerArgs& args, Branch branch) {
  const bool is_square = branch == kSquare;
  const bool is_band_w = branch == kBandW;
  const float* weight = is_band_w ? args.band_w.weight : args.band_h.weight;
  const float* bias = is_band_w ? args.band_w.bias : args.band_h.bias;
  return {is_square ? args.square.weight : weight, is_square ? args.square.bias : bias};
}

/// One walker: 1×k walks along a row, the others down a column.
struct Walk {
  int row = 0;  // of its first output in the tile
  int column = 0;
  int num_outputs = 0;  // in the image
};

__device__ __forceinline__ int num_walkers(const Place& place, Branch branch) {
  if (branch != kBandW) return place.columns;
  return place.rows * ((place.columns + kOutputs - 1) / kOutputs);
}

__device__ __forceinline__ Walk walk_of(const Place& place, Branch branch, int walker) {
  if (branch != kBandW) return {0, walker, place.rows};
  const int segments = (place.columns + kOutputs - 1) / kOutputs;
  const int row = walker / segments;
  const int column = (walker - row * segments) * kOutputs;
  return {row, column, min(kOutputs, place.columns - column)};
}

/// A branch's region: where it begins, how far rows lie apart, and the inputs of a walker.
struct Way {
  int region = 0;
  int pitch = 0;
  int step = 0;  // of a band's walker
  int chunk = 0;

  /// The first input of a walker.
  [[nodiscard]] __device__ __forceinline__ int at(const Walk& walk) const {
    return walk.row * pitch + walk.column * chunk;
  }
};

template <int kBand>
__device__ __forceinline__ Way way_of(const Cut& cut, Branch branch) {
  const int chunk = cut.chunk_channels;
  const int square = region_elements(cut.tile_columns, chunk, halo_of<kBand>(kSquare));
  if (branch == kSquare) return {0, (cut.tile_columns + 2) * chunk, 0, chunk};
  if (branch == kBandW) return {square, (cut.tile_columns + kBand - 1) * chunk, chunk, chunk};
  const int band_w = region_elements(cut.tile_columns, chunk, halo_of<kBand>(kBandW));
  const int pitch = cut.tile_columns * chunk;
  return {square + band_w, pitch, pitch, chunk};
}

/// Calls use(i, v) with the first kCount pixels of a way through shared memory, `step` elements
/// apart.
template <int kCount, typename Use>
__device__ __forceinline__ void for_pixels(const uint16_t* p, int step, const Use& use) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    float v[2];
    load_channels(v, p);
    use(i, v);
    p += step;
  }
}

/// Calls use(r, tap, v) for all products of a walker: input v goes to output r by `tap`.
template <int kTaps, typename Use>
__device__ __forceinline__ void for_line_products(const uint16_t* p, int step, const Use& use) {
  for_pixels<kTaps + kOutputs - 1>(p, step, [&](int i, const float(&v)[2]) {
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      if (i - r >= 0 && i - r < kTaps) use(r, i - r, v);
    }
  });
}

/// The same of the 3×3 kernel; p: the pixel above and left of the first output.
template <typename Use>
__device__ __forceinline__ void for_square_products(const uint16_t* p, int pitch, int chunk,
                                                    const Use& use) {
#pragma unroll
  for (int i = 0; i < kOutputs + 2; ++i) {
    for_pixels<3>(p, chunk, [&](int column, const float(&v)[2]) {
#pragma unroll
      for (int r = 0; r < kOutputs; ++r) {
        if (i - r >= 0 && i - r < 3) use(r, 3 * (i - r) + column, v);
      }
    });
    p += pitch;
  }
}

}  // namespace comet::ops_cuda::mixer
