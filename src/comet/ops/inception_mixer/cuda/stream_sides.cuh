// The sides of mixer_stream_backward.cu that copy: how a launch is cut, a CTA's shared memory, the
// stagers and the keeper. Callers: mixer_stream_backward.cu, which says what they do.
#pragma once

#include <cuda.h>

#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/cp_async.cuh"
#include "comet/device/cuda/prims/image_copy.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/ops/inception_mixer/cuda/band_cut.h"
#include "comet/ops/inception_mixer/cuda/dw_sums.cuh"
#include "comet/ops/inception_mixer/cuda/kept.cuh"
#include "comet/ops/inception_mixer/cuda/rows.cuh"

namespace comet::ops_cuda::mixer {

constexpr int kWalkBranchThreads = 128;
constexpr int kWalkThreads = 3 * kWalkBranchThreads;
constexpr int kFirstStager = kWalkThreads;
constexpr int kStageThreads = 96;
constexpr int kFirstKeeper = kFirstStager + kStageThreads;
constexpr int kStreamThreads = kFirstKeeper + 32;
constexpr int kMaxBoxChannels = 512;
constexpr int kSkippedPixels = 5;  // of a stager, whose slices begin with kept channels
// Rows of at most three bands, so that the keeper waits for no band whose walkers wait for it.
constexpr int kMaxKeptSlots = 8;

// Barriers, and how many threads take part.
constexpr uint32_t kWalkers = 1;
constexpr uint32_t kWalked = 2;  // and 3: walkers are through with an even, an odd band; stagers
constexpr uint32_t kWalkAndStage = kWalkThreads + kStageThreads;

/// Rows around a band lie in a set.
struct StreamCut : BandCut {
  int32_t x_at = 0;
  int32_t set_elements = 0;
  int32_t kept_elements = 0;  // of a row
  int32_t kept_slots = 0;
  int32_t barriers_at = 0;
  Divisor by_slice;  // pieces of a pixel's slice,
  Divisor by_halo;   // and of one around a band
};

/// A CTA's bands.
struct Span {
  int begin = 0;
  int end = 0;
};

__device__ __forceinline__ Span span_of(const StreamCut& cut) {
  const auto at = [&](unsigned cta) {
    return static_cast<int>(static_cast<int64_t>(cut.num_tiles) * cta / gridDim.x);
  };
  return {at(blockIdx.x), at(blockIdx.x + 1)};
}

/// Element of a band's first pixel.
__device__ __forceinline__ int64_t at_band(const ImageSizes& sizes, const Band& band) {
  return band.image_at + static_cast<int64_t>(band.first_row) * sizes.width * sizes.channels;
}

/// A CTA's shared memory. Barriers of four turns: sides are two bands apart at most, so that no
/// phase is taken for another.
struct Shared {
  uint16_t* all;
  const StreamCut& cut;

  [[nodiscard]] __device__ __forceinline__ uint16_t* set(int turn) const {
    return all + (turn & 1) * cut.set_elements;
  }
  [[nodiscard]] __device__ __forceinline__ uint16_t* kept_dy(int slot) const {
    return all + 2 * cut.set_elements + 2 * slot * cut.kept_elements;
  }
  [[nodiscard]] __device__ __forceinline__ uint16_t* kept_dx(int slot) const {
    return kept_dy(slot) + cut.kept_elements;
  }
  [[nodiscard]] __device__ __forceinline__ uint64_t* barriers() const {
    return reinterpret_cast<uint64_t*>(all + cut.barriers_at);
  }
  /// A set is there.
  [[nodiscard]] __device__ __forceinline__ uint64_t* full(int turn) const {
    return barriers() + (turn & 3);
  }
  /// The walkers are through with a band.
  [[nodiscard]] __device__ __forceinline__ uint64_t* walked(int turn) const {
    return barriers() + 4 + (turn & 3);
  }
  /// A band's kept channels are added.
  [[nodiscard]] __device__ __forceinline__ uint64_t* added(int turn) const {
    return barriers() + 8 + (turn & 3);
  }
  [[nodiscard]] __device__ __forceinline__ uint64_t* kept_full(int slot) const {
    return barriers() + 12 + slot;
  }
  static __device__ __forceinline__ uint32_t parity(int turn) {
    return static_cast<uint32_t>(turn >> 2) & 1U;
  }
  /// One thread.
  __device__ __forceinline__ void init_barriers() const {
    for (int i = 0; i < 4; ++i) {
      prims::mbarrier_init(full(i), kStageThreads);
      prims::mbarrier_init(walked(i), kWalkThreads / 32);
      prims::mbarrier_init(added(i), 1);
    }
    for (int i = 0; i < cut.kept_slots; ++i) prims::mbarrier_init(kept_full(i), 1);
    prims::mbarrier_init_fence();
  }
};
constexpr int kNumBarriers = 12 + kMaxKeptSlots;

// ---- Keeper: one warp

/// Boxes of a row each.
struct KeptMaps {
  CUtensorMap dy;
  CUtensorMap dx;
};

/// A kept row of a CTA's bands, one after the other.
struct KeptRow {
  int turn = 0;
  int row = 0;
};

struct Keeper {
  const KeptMaps& maps;
  const Shared& shared;
  const ImageSizes& sizes;
  Span span;

  [[nodiscard]] __device__ __forceinline__ Band band_at(int turn) const {
    return band_of(sizes, shared.cut.bands_per_image, span.begin + turn);
  }
  [[nodiscard]] __device__ __forceinline__ bool exists(const KeptRow& row) const {
    return row.turn < span.end - span.begin;
  }
  [[nodiscard]] __device__ __forceinline__ prims::BoxAt4d box_at(const KeptRow& row) const {
    const int image = (span.begin + row.turn) / shared.cut.bands_per_image;
    return {0, 0, band_at(row.turn).first_row + row.row, image};
  }
  /// True behind the last of a band.
  [[nodiscard]] __device__ __forceinline__ bool advance(KeptRow& row) const {
    if (++row.row < band_at(row.turn).rows) return false;
    row.row = 0;
    ++row.turn;
    return true;
  }
  /// One lane.
  __device__ __forceinline__ void load(const KeptRow& row, int slot) const {
    uint64_t* full = shared.kept_full(slot);
    prims::mbarrier_arrive_expect_tx(
        full, static_cast<uint32_t>(2 * sizes.width * shared.cut.first) * sizeof(uint16_t));
    prims::tensor_load_4d(shared.kept_dy(slot), &maps.dy, box_at(row), full);
    prims::tensor_load_4d(shared.kept_dx(slot), &maps.dx, box_at(row), full);
  }
  /// The warp: the next row comes when its band's turn has come.
  __device__ __forceinline__ void load_next(KeptRow& next, int slot) const {
    if (!exists(next)) return;
    const int before = next.turn - 2;
    if (before >= 0 && next.row == 0) {
      prims::mbarrier_wait(shared.walked(before), Shared::parity(before));
    }
    if (prims::elect_one()) load(next, slot);
    __syncwarp();
    (void)advance(next);
  }
  __device__ __forceinline__ void add(int slot) const {
    const auto* dy = reinterpret_cast<const uint4*>(shared.kept_dy(slot));
    auto* dx = reinterpret_cast<uint4*>(shared.kept_dx(slot));
    const int num = sizes.width * shared.cut.first / kPieceChannels;
#pragma unroll 4
    for (auto i = static_cast<int>(threadIdx.x % 32); i < num; i += 32) {
      const uint4 a = dy[i];
      const uint4 b = dx[i];
      dx[i] = make_uint4(add_pair(a.x, b.x), add_pair(a.y, b.y), add_pair(a.z, b.z),
                         add_pair(a.w, b.w));
    }
  }
  __device__ __forceinline__ void run() const {
    const int num_slots = shared.cut.kept_slots;
    KeptRow next;
    KeptRow row;
    for (int slot = 0; slot < num_slots; ++slot) load_next(next, slot);
    int slot = 0;
    int last_slot = -1;
    uint32_t parity = 0;
#pragma unroll 1
    while (exists(row)) {
      prims::mbarrier_wait(shared.kept_full(slot), parity);
      add(slot);
      prims::fence_proxy_async();
      __syncwarp();
      const int turn = row.turn;
      const prims::BoxAt4d at = box_at(row);
      const bool is_last = advance(row);
      if (prims::elect_one()) {
        prims::tensor_store_4d(&maps.dx, shared.kept_dx(slot), at);
        prims::bulk_commit();
        if (is_last) prims::mbarrier_arrive(shared.added(turn));
        prims::bulk_wait_read<1>();
      }
      __syncwarp();
      if (last_slot >= 0) load_next(next, last_slot);
      last_slot = slot;
      if (++slot == num_slots) {
        slot = 0;
        parity ^= 1U;
      }
    }
    if (prims::elect_one()) prims::bulk_wait_read<0>();
  }
};

// ---- Stagers

/// `rows` whole rows of an image from first_row on, of them num_channels from `channel` on, dense
/// in shared memory; zeros outside of the image. A thread keeps its piece of a pixel.
struct Box {
  int first_row = 0;
  int rows = 0;
  int channel = 0;
  Divisor by_pieces;  // of a pixel
};

/// Calls use(at in the box, at in the image, whether it exists) for a stager's pieces.
template <typename Use>
__device__ __forceinline__ void for_pieces(const ImageSizes& sizes, const Box& box,
                                           const Use& use) {
  const int pieces = box.by_pieces.divisor;
  const int thread = static_cast<int>(threadIdx.x) - kFirstStager;
  const int lane = quotient(thread, box.by_pieces);
  const int within = (thread - lane * pieces) * kPieceChannels;
  const int num_lanes = quotient(kStageThreads, box.by_pieces);
  if (lane >= num_lanes) return;
  const int first = box.first_row * sizes.width;
  const int num_pixels = sizes.height * sizes.width;
  const int slice = pieces * kPieceChannels;
#pragma unroll 4
  for (int pixel = lane; pixel < box.rows * sizes.width; pixel += num_lanes) {
    use(pixel * slice + within, (first + pixel) * sizes.channels + box.channel + within,
        is_within(first + pixel, num_pixels));
  }
}

__device__ __forceinline__ void load_box(uint16_t* shared, const uint16_t* image,
                                         const ImageSizes& sizes, const Box& box) {
  for_pieces(sizes, box, [&](int to, int at, bool exists) {
    prims::cp_async_16_or_zero(shared + to, image + (exists ? at : 0), exists);
  });
}

/// What exists of the box in the image.
__device__ __forceinline__ void store_box(uint16_t* image, const uint16_t* shared,
                                          const ImageSizes& sizes, const Box& box) {
  for_pieces(sizes, box, [&](int from, int at, bool exists) {
    const Bits<kPieceChannels> bits = load_bits<kPieceChannels>(shared + from);
    if (exists) store_bits<kPieceChannels>(image + at, bits);
  });
}

template <int kBand>
struct Stagers {
  const MixerBackwardArgs& args;
  const Shared& shared;
  Span span;

  [[nodiscard]] __device__ __forceinline__ const ImageSizes& sizes() const {
    return args.forward.sizes;
  }
  [[nodiscard]] __device__ __forceinline__ Band band_at(int turn) const {
    return band_of(sizes(), shared.cut.bands_per_image, span.begin + turn);
  }
  [[nodiscard]] __device__ __forceinline__ Box slices(const Band& band) const {
    return {band.first_row, kOutputs, shared.cut.first, shared.cut.by_slice};
  }
  __device__ __forceinline__ void load_dy(int turn) const {
    constexpr int kHalf = kBand / 2;
    const StreamCut& cut = shared.cut;
    const Band band = band_at(turn);
    const auto* dy = static_cast<const uint16_t*>(args.dy) + band.image_at;
    const int above = band.first_row;
    const int below = band.first_row + kOutputs;
    uint16_t* to = shared.set(turn);
    load_box(to, dy, sizes(), slices(band));
    const auto load_around = [&](int at, int row, int rows, int channel) {
      load_box(to + at, dy, sizes(), {row, rows, channel, cut.by_halo});
    };
    load_around(cut.square_at, above - 1, 1, cut.first);
    load_around(cut.square_at + cut.square_below, below, 1, cut.first);
    load_around(cut.band_h_at, above - kHalf, kHalf, cut.band_h_first);
    load_around(cut.band_h_at + cut.band_h_below, below, kHalf, cut.band_h_first);
  }
  __device__ __forceinline__ void load_x(int turn) const {
    const Band band = band_at(turn);
    load_box(shared.set(turn) + shared.cut.x_at,
             static_cast<const uint16_t*>(args.forward.x) + band.image_at, sizes(), slices(band));
    prims::cp_async_arrive(shared.full(turn));
  }
  /// dx + dy in the kept channels that the slices begin with goes where x lies. dx is read while
  /// the set is still on its way.
  __device__ __forceinline__ void keep_in_slices(int turn) const {
    const int slice = shared.cut.slice;
    const int num_kept = slice - 3 * args.forward.branch;
    if (num_kept == 0) return;
    const Band band = band_at(turn);
    const int num_pixels = band.rows * sizes().width;
    const int thread = static_cast<int>(threadIdx.x) - kFirstStager;
    const auto* dx =
        static_cast<const uint16_t*>(args.dx) + at_band(sizes(), band) + shared.cut.first;
    uint32_t old[kSkippedPixels][kPieceChannels / 2 - 1];
    const auto for_words = [&](const auto& use) {
#pragma unroll
      for (int i = 0; i < kSkippedPixels; ++i) {
#pragma unroll
        for (int j = 0; j < kPieceChannels / 2 - 1; ++j) {
          const int pixel = thread + i * kStageThreads;
          if (pixel < num_pixels && 2 * j < num_kept) use(old[i][j], pixel, 2 * j);
        }
      }
    };
    for_words([&](uint32_t& word, int pixel, int channel) {
      word = word_at(dx + pixel * sizes().channels + channel);
    });
    prims::mbarrier_wait(shared.full(turn), Shared::parity(turn));
    const uint16_t* dy = shared.set(turn);
    uint16_t* to = shared.set(turn) + shared.cut.x_at;
    for_words([&](uint32_t& word, int pixel, int channel) {
      const int at = pixel * slice + channel;
      *reinterpret_cast<uint32_t*>(to + at) = add_pair(word_at(dy + at), word);
    });
  }
  __device__ __forceinline__ void run() const {
    const int num = span.end - span.begin;
    for (int turn = 0; turn < min(num, 2); ++turn) {
      load_dy(turn);
      load_x(turn);
    }
#pragma unroll 1
    for (int turn = 0; turn < num; ++turn) {
      keep_in_slices(turn);
      prims::named_barrier_sync(kWalked + static_cast<uint32_t>(turn & 1), kWalkAndStage);
      if (turn + 2 < num) load_dy(turn + 2);
      const Band band = band_at(turn);
      store_box(static_cast<uint16_t*>(args.dx) + band.image_at, shared.set(turn) + shared.cut.x_at,
                sizes(), slices(band));
      // A thread's own pieces: what it has read is what it brings.
      if (turn + 2 < num) load_x(turn + 2);
    }
  }
};

}  // namespace comet::ops_cuda::mixer
