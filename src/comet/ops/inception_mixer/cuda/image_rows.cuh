// The rows of mixer_images_backward.cu on their way: how its launch is cut, a CTA's shared memory,
// who copies rows, and who adds dy to dx in the channels that are kept. Callers: image_walks.cuh,
// mixer_images_backward.cu, which says what they do.
#pragma once

#include <cuda.h>

#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/image_copy.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/ops/inception_mixer/cuda/band_cut.h"
#include "comet/ops/inception_mixer/cuda/dw_sums.cuh"
#include "comet/ops/inception_mixer/cuda/kept.cuh"

namespace comet::ops_cuda::mixer::images {

// Threads of a role, and the first of them.
constexpr int kDownThreads = 352;   // k×1: 56 × 6, 28 × 12, 14 × 24, 7 × 48 columns × pairs
constexpr int kAcrossThreads = 96;  // 1×k, the square: two rows of 8 × 6 segments × pairs, …
constexpr int kRowsAtOnce = 2;
constexpr int kKeepThreads = 64;
constexpr int kFirstDown = 0;
constexpr int kFirstAlong = kFirstDown + kDownThreads;
constexpr int kFirstSquare = kFirstAlong + kAcrossThreads;
constexpr int kFirstKeeper = kFirstSquare + kAcrossThreads;
constexpr int kFirstCopier = kFirstKeeper + kKeepThreads;
constexpr int kImagesThreads = kFirstCopier + 32;
constexpr int kSummers = kFirstKeeper;  // threads with sums of dw
constexpr uint32_t kRowsBarrier = 1;    // all rows have been read; all but the copier
constexpr uint32_t kSumsBarrier = 2;    // all sums are laid; those who have some

constexpr int kMaxDySlots = 16;
constexpr int kMaxNearSlots = 8;
constexpr int kMinNearSlots = 5;
constexpr int kNumBarriers = kMaxDySlots + 2 * kMaxNearSlots;

struct ImagesCut {
  int32_t first = 0;  // x's boxes begin at this channel, of a piece,
  int32_t slice = 0;  // and have so many
  int32_t segments = 0;
  // In elements:
  int32_t row = 0;
  int32_t dy_at = 0;     // zeros lie before it and between rows of dy
  int32_t dy_pitch = 0;  // from row to row
  int32_t near_at = 0;
  int32_t near_pitch = 0;  // from dx to dx; each has its x behind it
  int32_t x_at = 0;        // from a dx to its x
  int32_t barriers_at = 0;
  int32_t dy_slots = 0;
  int32_t near_slots = 0;
  int32_t map_rows = 0;  // of a row in the maps of dy and dx
};

/// Boxes of a row each.
struct ImageMaps {
  CUtensorMap dy;
  CUtensorMap dx;
  CUtensorMap x;
};

/// What the kernel knows of images: that they are 7 × 7, that 7 divides their rows, nothing.
enum class Widths { kSeven, kSevens, kAny };

/// A place in a ring of rows, and the parity of its turn, in one register.
class RingAt {
 public:
  [[nodiscard]] __device__ __forceinline__ int slot() const {
    return static_cast<int>(bits_ % kParity);
  }
  [[nodiscard]] __device__ __forceinline__ uint32_t parity() const { return bits_ / kParity; }
  __device__ __forceinline__ void advance(int num_slots) {
    if (slot() + 1 < num_slots) {
      ++bits_;
    } else {
      bits_ = (parity() ^ 1U) * kParity;
    }
  }

 private:
  static constexpr uint32_t kParity = 256;
  uint32_t bits_ = 0;
};

struct Shared {
  uint16_t* all;
  const ImagesCut& cut;

  [[nodiscard]] __device__ __forceinline__ uint16_t* dy(int slot) const {
    return all + cut.dy_at + slot * cut.dy_pitch;
  }
  [[nodiscard]] __device__ __forceinline__ uint16_t* dx(int slot) const {
    return all + cut.near_at + slot * cut.near_pitch;
  }
  [[nodiscard]] __device__ __forceinline__ uint16_t* x(int slot) const {
    return dx(slot) + cut.x_at;
  }
  [[nodiscard]] __device__ __forceinline__ uint64_t* dy_full(int slot) const {
    return reinterpret_cast<uint64_t*>(all + cut.barriers_at) + slot;
  }
  [[nodiscard]] __device__ __forceinline__ uint64_t* near_full(int slot) const {
    return dy_full(kMaxDySlots + slot);
  }
  /// All have added to the row of dx.
  [[nodiscard]] __device__ __forceinline__ uint64_t* added(int slot) const {
    return dy_full(kMaxDySlots + kMaxNearSlots + slot);
  }
  /// One warp.
  __device__ __forceinline__ void init_barriers() const {
    for (auto i = static_cast<int>(threadIdx.x % 32); i < kNumBarriers; i += 32) {
      prims::mbarrier_init(dy_full(i), i < kMaxDySlots + kMaxNearSlots ? 1 : kFirstCopier / 32);
    }
    prims::mbarrier_init_fence();
  }
  /// All threads: the zeros around rows of dy.
  __device__ __forceinline__ void clear_sides() const {
    const int first = cut.dy_at / kPieceChannels;
    const int between = (cut.dy_pitch - cut.row) / kPieceChannels;
    const auto thread = static_cast<int>(threadIdx.x);
    for (int i = thread; i < first + cut.dy_slots * between; i += kImagesThreads) {
      const int slot = max(i - first, 0) / between;
      const int at = i < first ? i * kPieceChannels
                               : cut.dy_at + slot * cut.dy_pitch + cut.row +
                                     (i - first - slot * between) * kPieceChannels;
      *reinterpret_cast<uint4*>(all + at) = make_uint4(0, 0, 0, 0);
    }
  }
};

/// A role's way through the CTA's rows. Rows are where they begin in shared memory, in elements:
/// pointers that depend on the thread would be generic ones.
struct Way {
  const Shared& shared;
  RingAt dy;
  RingAt near;

  __device__ __forceinline__ explicit Way(const Shared& of) : shared(of) {}

  /// The next row of dy, which has come.
  [[nodiscard]] __device__ __forceinline__ int next_dy() {
    const int slot = dy.slot();
    prims::mbarrier_wait(shared.dy_full(slot), dy.parity());
    dy.advance(shared.cut.dy_slots);
    return shared.cut.dy_at + slot * shared.cut.dy_pitch;
  }
  /// The next row of dx, behind which x lies, has come: its slot.
  [[nodiscard]] __device__ __forceinline__ int next_near() {
    const int slot = near.slot();
    prims::mbarrier_wait(shared.near_full(slot), near.parity());
    near.advance(shared.cut.near_slots);
    return slot;
  }
  [[nodiscard]] __device__ __forceinline__ int dx_of(int slot) const {
    return shared.cut.near_at + slot * shared.cut.near_pitch;
  }
  [[nodiscard]] __device__ __forceinline__ int x_of(int slot) const {
    return dx_of(slot) + shared.cut.x_at;
  }
  /// This warp has added to the row of dx in this slot. All threads of a warp.
  __device__ __forceinline__ void end_row(int slot) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) prims::mbarrier_arrive(shared.added(slot));
  }
};

__device__ __forceinline__ int num_images_of(const ImageSizes& sizes) {
  const auto stride = static_cast<int>(gridDim.x);
  return (sizes.num_images - static_cast<int>(blockIdx.x) + stride - 1) / stride;
}

// ---- The copier: one lane

struct Copier {
  const MixerBackwardArgs& args;
  const ImageMaps& maps;
  const Shared& shared;

  [[nodiscard]] __device__ __forceinline__ int image_of(int turn) const {
    return static_cast<int>(blockIdx.x) + turn * static_cast<int>(gridDim.x);
  }
  /// A row of the CTA's images.
  struct RowAt {
    int turn = 0;
    int row = 0;
    __device__ __forceinline__ void advance(int height) {
      if (++row < height) return;
      row = 0;
      ++turn;
    }
  };
  [[nodiscard]] __device__ __forceinline__ uint32_t row_bytes() const {
    return static_cast<uint32_t>(shared.cut.row) * sizeof(uint16_t);
  }
  /// Of all images.
  [[nodiscard]] __device__ __forceinline__ int row_of(const RowAt& at) const {
    return image_of(at.turn) * args.forward.sizes.height + at.row;
  }
  __device__ __forceinline__ void prefetch(const void* rows, const RowAt& at) const {
    prims::bulk_prefetch_l2(
        static_cast<const uint16_t*>(rows) + int64_t{row_of(at)} * shared.cut.row, row_bytes());
  }
  [[nodiscard]] __device__ __forceinline__ prims::BoxAt4d x_box(const RowAt& at) const {
    return {shared.cut.first / 2, 0, at.row, image_of(at.turn)};
  }
  __device__ __forceinline__ void load_dy(const RowAt& at, int slot) const {
    uint64_t* full = shared.dy_full(slot);
    prims::mbarrier_arrive_expect_tx(full, row_bytes());
    prims::tensor_load_2d(shared.dy(slot), &maps.dy, 0, row_of(at) * shared.cut.map_rows, full);
  }
  __device__ __forceinline__ void load_near(const RowAt& at, int slot) const {
    const int x_elements = args.forward.sizes.width * shared.cut.slice;
    uint64_t* full = shared.near_full(slot);
    prims::mbarrier_arrive_expect_tx(
        full, row_bytes() + static_cast<uint32_t>(x_elements) * sizeof(uint16_t));
    prims::tensor_load_2d(shared.dx(slot), &maps.dx, 0, row_of(at) * shared.cut.map_rows, full);
    prims::tensor_load_4d(shared.x(slot), &maps.x, x_box(at), full);
  }

  /// What run() loads first on its way to L2, while the kernel before this one may still write it.
  __device__ __forceinline__ void prefetch() const {
    const ImagesCut& cut = shared.cut;
    const int height = args.forward.sizes.height;
    const int num_rows = num_images_of(args.forward.sizes) * height;
    prims::tensor_map_prefetch(&maps.dy);
    prims::tensor_map_prefetch(&maps.dx);
    prims::tensor_map_prefetch(&maps.x);
    RowAt at;
    for (int i = 0; i < min(max(cut.dy_slots, cut.near_slots), num_rows); ++i, at.advance(height)) {
      if (i < cut.dy_slots) prefetch(args.dy, at);
      if (i >= cut.near_slots) continue;
      prefetch(args.dx, at);
      prims::tensor_prefetch_4d(&maps.x, x_box(at));
    }
  }

  __device__ __forceinline__ void run() const {
    const ImagesCut& cut = shared.cut;
    const int height = args.forward.sizes.height;
    const int num_rows = num_images_of(args.forward.sizes) * height;
    RowAt next_dy;
    RowAt next_near;
    constexpr int kAhead = 2;  // rows of dy before the first of dx
    for (int i = 0; i < max(cut.dy_slots, cut.near_slots + kAhead); ++i) {
      if (i < min(cut.dy_slots, num_rows)) {
        load_dy(next_dy, i);
        next_dy.advance(height);
      }
      if (i >= kAhead && i - kAhead < min(cut.near_slots, num_rows)) {
        load_near(next_near, i - kAhead);
        next_near.advance(height);
      }
    }
    RowAt at;
    RingAt dy;  // slot of the row before
    RingAt near;
    int near_before = 0;
#pragma unroll 1
    for (int i = 0; i < num_rows; ++i) {
      prims::mbarrier_wait(shared.added(near.slot()), near.parity());
      prims::fence_proxy_async();
      prims::tensor_store_2d(&maps.dx, shared.dx(near.slot()), 0, row_of(at) * cut.map_rows);
      prims::bulk_commit();
      at.advance(height);
      if (i > 0) {
        if (i - 1 + cut.dy_slots < num_rows) {
          load_dy(next_dy, dy.slot());
          next_dy.advance(height);
        }
        dy.advance(cut.dy_slots);
        if (i - 1 + cut.near_slots < num_rows) {
          prims::bulk_wait_read<1>();  // the row before has left
          load_near(next_near, near_before);
          next_near.advance(height);
        }
      }
      near_before = near.slot();
      near.advance(cut.near_slots);
    }
    prims::bulk_wait();
  }
};

// ---- Kept channels

/// dx += dy before the branches. A thread keeps its piece of a pixel.
__device__ __forceinline__ void keep_all(const MixerBackwardArgs& args, const Shared& shared) {
  const ImagesCut& cut = shared.cut;
  const ImageSizes& sizes = args.forward.sizes;
  const int thread = static_cast<int>(threadIdx.x) - kFirstKeeper;
  constexpr int kBatch = 4;  // pixels that are read before the first is written
  const int pieces = max(cut.first / kPieceChannels, 1);
  const int num_lanes = max(kKeepThreads / pieces, 1);
  const int lane = thread / pieces;
  const int num_words = (sizes.channels - 3 * args.forward.branch - cut.first) / 2;
  const int num_rows = num_images_of(sizes) * sizes.height;
  Way way(shared);
#pragma unroll 1
  for (int i = 0; i < num_rows; ++i) {
    const uint16_t* dy = shared.all + way.next_dy();
    const int slot = way.next_near();
    uint16_t* dx = shared.dx(slot);
    for (int piece = thread - lane * pieces; lane < num_lanes && piece * kPieceChannels < cut.first;
         piece += kKeepThreads) {
#pragma unroll 1
      for (int first = lane; first < sizes.width; first += kBatch * num_lanes) {
        Bits<kPieceChannels> sums[kBatch];
        Bits<kPieceChannels> added[kBatch];
        const auto at = [&](int i) {  // its first pixel again where there is none
          const int pixel = first + i * num_lanes;
          return (pixel < sizes.width ? pixel : first) * sizes.channels + piece * kPieceChannels;
        };
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          added[i] = load_bits<kPieceChannels>(dy + at(i));
          sums[i] = load_bits<kPieceChannels>(dx + at(i));
        }
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          if (first + i * num_lanes >= sizes.width) continue;
#pragma unroll
          for (int k = 0; k < kPieceChannels / 2; ++k) {
            sums[i].v[k] = add_pair(added[i].v[k], sums[i].v[k]);
          }
          store_bits<kPieceChannels>(dx + at(i), sums[i]);
        }
      }
    }
    for (int word = 0; word < num_words; ++word) {
      for (int pixel = thread; pixel < sizes.width; pixel += kKeepThreads) {
        const int at = pixel * sizes.channels + cut.first + 2 * word;
        auto* sum = reinterpret_cast<uint32_t*>(dx + at);
        *sum = add_pair(word_at(dy + at), *sum);
      }
    }
    way.end_row(slot);
  }
}

}  // namespace comet::ops_cuda::mixer::images
