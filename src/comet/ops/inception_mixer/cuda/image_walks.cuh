// The branches of mixer_images_backward.cu: dx of a row, and sums of dw in a thread's registers,
// which a CTA adds at its end. Callers: mixer_images_backward.cu, which says what they do.
#pragma once

#include "comet/ops/inception_mixer/cuda/image_rows.cuh"

namespace comet::ops_cuda::mixer::images {

/// The weights of a thread's channels, and its sums of dw and of the bias' gradient behind them.
template <int kTaps>
struct Pair {
  float w[kTaps][2];
  float sums[kTaps + 1][2];

  __device__ __forceinline__ Pair(const KernelWeights& weights, int branch, int channel) {
#pragma unroll
    for (int t = 0; t < kTaps; ++t) load_weights(w[t], weights.weight + t * branch + channel);
#pragma unroll
    for (int t = 0; t <= kTaps; ++t) sums[t][0] = sums[t][1] = 0.0F;
  }
  /// v: dy that `tap` takes to an output of dx, where x is.
  __device__ __forceinline__ void add(float (&out)[2], int tap, const float (&x)[2],
                                      const float (&v)[2]) {
    fma_channels(out, w[tap], v);
    fma_channels(sums[tap], x, v);
  }
  __device__ __forceinline__ void add_bias(const float (&v)[2]) {
    sums[kTaps][0] += v[0];
    sums[kTaps][1] += v[1];
  }
};

/// What a thread has among those of a branch: rank = place · pairs + pair. Places of 1×k and the
/// square are segments of a step's rows.
struct Role {
  int place = 0;
  int channel = 0;  // in the branch
  bool is_active = false;
};

/// Made anew where it is wanted: it holds no registers in between.
__device__ __forceinline__ Role role_of(int first_thread, int branch, int num_places) {
  const int pairs = branch / 2;
  const int rank = static_cast<int>(prims::thread_idx_anew()) - first_thread;
  const int place = rank / pairs;
  if (place >= num_places) return {};
  return {place, 2 * (rank - place * pairs), true};
}

/// A thread's column of k×1.
struct Column {
  const Shared& shared;
  Way way;
  bool is_active;
  int at;  // in a row of dy and dx
  int x_at;

  __device__ __forceinline__ Column(const ImageSizes& sizes, const Shared& of, const Role& role,
                                    int branch)
      : shared(of), way(of), is_active(role.is_active) {
    const int channel = sizes.channels - branch + role.channel;
    at = role.place * sizes.channels + channel;
    x_at = role.place * of.cut.slice + channel - of.cut.first;
  }
  __device__ __forceinline__ void load_dy(float (&v)[2]) {
    load_channels(v, shared.all + way.next_dy() + at);
  }
  /// The next row: products(x, out) adds those of its output.
  template <typename Products>
  __device__ __forceinline__ void end_row(const Products& products) {
    const int slot = way.next_near();
    float x[2];
    float out[2] = {};
    load_channels(x, shared.x(slot) + x_at);
    products(x, out);
    if (is_active) add_channels(shared.dx(slot) + at, out);
    way.end_row(slot);
  }
};

/// k×1 on images of 7 × 7, a column of which is in registers.
template <int kBand>
__device__ __forceinline__ void walk_columns(Pair<kBand>& own, Column& column, int num_images) {
  constexpr int kHalf = kBand / 2;
#pragma unroll 1
  for (int left = num_images; left > 0; --left) {
    float dy[kOutputs][2];
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      column.load_dy(dy[r]);
      own.add_bias(dy[r]);
    }
#pragma unroll
    for (int q = 0; q < kOutputs; ++q) {
      column.end_row([&](const float(&x)[2], float(&out)[2]) {
#pragma unroll
        for (int r = 0; r < kOutputs; ++r) {
          const int tap = q + kHalf - r;
          if (tap >= 0 && tap < kBand) own.add(out, tap, x, dy[r]);
        }
      });
    }
  }
}

/// k×1.
template <int kBand, Widths kWidths>
__device__ __forceinline__ Pair<kBand> walk_down(const MixerBackwardArgs& args,
                                                 const Shared& shared) {
  constexpr int kHalf = kBand / 2;
  const ImageSizes& sizes = args.forward.sizes;
  const int branch = args.forward.branch;
  const Role role = role_of(kFirstDown, branch, sizes.width);
  Pair<kBand> own(args.forward.band_h, branch, role.channel);
  Column column(sizes, shared, role, branch);
  int left = num_images_of(sizes);
  if constexpr (kWidths == Widths::kSeven) {
    walk_columns(own, column, left);
    left = 0;
  }
#pragma unroll 1
  for (; left > 0; --left) {
    float window[kBand][2] = {};  // dy of row r is at r % kBand
#pragma unroll 1
    for (int base = 0; base < sizes.height + kHalf; base += kBand) {
#pragma unroll
      for (int j = 0; j < kBand; ++j) {
        const int r = base + j;
        if (r >= sizes.height + kHalf) break;
        if (r < sizes.height) {
          column.load_dy(window[j]);
          own.add_bias(window[j]);
        } else {
          window[j][0] = window[j][1] = 0.0F;
        }
        if (r < kHalf) continue;
        column.end_row([&](const float(&x)[2], float(&out)[2]) {
#pragma unroll
          for (int t = kBand - 1; t >= 0; --t) own.add(out, t, x, window[(j - t + kBand) % kBand]);
        });
      }
    }
  }
  return own;
}

/// What a thread has of a row: its channels in kOutputs columns.
template <Widths kWidths>
struct Segment {
  const ImageSizes& sizes;
  const ImagesCut& cut;
  int at = 0;  // the first column's place in a row of dy and dx,
  int x_at = 0;
  int num = 0;  // columns of the image

  __device__ __forceinline__ Segment(const ImageSizes& of, const ImagesCut& by, const Role& role,
                                     int channel)
      : sizes(of), cut(by) {
    const int first = role.place % cut.segments * kOutputs;
    at = first * sizes.channels + channel;
    x_at = first * cut.slice + channel - cut.first;
    num = min(kOutputs, sizes.width - first);
  }

  [[nodiscard]] __device__ __forceinline__ bool has(int column) const {
    return kWidths != Widths::kAny || column < num;
  }
  __device__ __forceinline__ void load_x(float (&x)[kOutputs][2], const uint16_t* row) const {
    const uint16_t* p = row + x_at;
#pragma unroll
    for (int r = 0; r < kOutputs; ++r, p += cut.slice) load_channels_if(x[r], p, has(r));
  }
  /// use(c, v): dy of the columns from kBefore before the first to as many behind the last, where
  /// they exist or zeros lie.
  template <int kBefore, typename Use>
  __device__ __forceinline__ void for_dy(const uint16_t* row, const Use& use) const {
    constexpr bool kIsWhole = kWidths == Widths::kSeven;
    constexpr int kFirst = kIsWhole ? kBefore : 0;
    constexpr int kEnd = kOutputs + (kIsWhole ? kBefore : 2 * kBefore);
    const uint16_t* p = row + at + (kFirst - kBefore) * sizes.channels;
#pragma unroll
    for (int c = kFirst; c < kEnd; ++c, p += sizes.channels) {
      float v[2];
      load_channels(v, p);
      use(c, v);
    }
  }
  __device__ __forceinline__ void add(uint16_t* dx, const float (&out)[kOutputs][2]) const {
    uint16_t* p = dx + at;
#pragma unroll
    for (int r = 0; r < kOutputs; ++r, p += sizes.channels) {
      if (has(r)) add_channels(p, out[r]);
    }
  }
};

/// 1×k.
template <int kBand, Widths kWidths>
__device__ __forceinline__ Pair<kBand> walk_along(const MixerBackwardArgs& args,
                                                  const Shared& shared) {
  constexpr int kHalf = kBand / 2;
  const ImageSizes& sizes = args.forward.sizes;
  const int branch = args.forward.branch;
  const Role role = role_of(kFirstAlong, branch, kRowsAtOnce * shared.cut.segments);
  Pair<kBand> own(args.forward.band_w, branch, role.channel);
  const Segment<kWidths> segment(sizes, shared.cut, role,
                                 sizes.channels - 2 * branch + role.channel);
  const bool is_second = role.place >= shared.cut.segments;
  Way way(shared);
#pragma unroll 1
  for (int left = num_images_of(sizes) * sizes.height; left > 0; left -= kRowsAtOnce) {
    const bool has_second = left > 1;
    int dy = way.next_dy();
    const int first_slot = way.next_near();
    int slot = first_slot;
    if (has_second) {
      const int second_dy = way.next_dy();
      slot = way.next_near();
      if (is_second) dy = second_dy;
    }
    const int mine = is_second ? slot : first_slot;
    if (role.is_active && (has_second || !is_second)) {
      float x[kOutputs][2];
      float out[kOutputs][2] = {};
      segment.load_x(x, shared.all + way.x_of(mine));
      segment.template for_dy<kHalf>(shared.all + dy, [&](int c, const float(&v)[2]) {
        if (c >= kHalf && c < kHalf + kOutputs) own.add_bias(v);
#pragma unroll
        for (int r = 0; r < kOutputs; ++r) {
          const int tap = r + kBand - 1 - c;
          if (tap >= 0 && tap < kBand) own.add(out[r], tap, x[r], v);
        }
      });
      segment.add(shared.all + way.dx_of(mine), out);
    }
    if (has_second) way.end_row(first_slot);
    way.end_row(slot);
  }
  return own;
}

/// 3×3.
template <Widths kWidths>
__device__ __forceinline__ Pair<9> walk_square(const MixerBackwardArgs& args,
                                               const Shared& shared) {
  const ImageSizes& sizes = args.forward.sizes;
  const int branch = args.forward.branch;
  const Role role = role_of(kFirstSquare, branch, kRowsAtOnce * shared.cut.segments);
  Pair<9> own(args.forward.square, branch, role.channel);
  const Segment<kWidths> segment(sizes, shared.cut, role,
                                 sizes.channels - 3 * branch + role.channel);
  const bool is_second = role.place >= shared.cut.segments;
  Way way(shared);
  // Rows of dy: the one above the step's first, its own, and the one below.
  int rows[kRowsAtOnce + 2] = {};
  rows[1] = way.next_dy();
  int row = 0;  // of the step's first in its image
#pragma unroll 1
  for (int left = num_images_of(sizes) * sizes.height; left > 0; left -= kRowsAtOnce) {
    const bool has_second = left > 1;
    if (has_second) rows[2] = way.next_dy();
    if (left > 2) rows[3] = way.next_dy();
    const int first_slot = way.next_near();
    const int slot = has_second ? way.next_near() : first_slot;
    const int second_row = row + 1 == sizes.height ? 0 : row + 1;
    const int my_row = is_second ? second_row : row;
    const int mine = is_second ? slot : first_slot;
    if (role.is_active && (has_second || !is_second)) {
      float x[kOutputs][2];
      float out[kOutputs][2] = {};
      segment.load_x(x, shared.all + way.x_of(mine));
#pragma unroll
      for (int d = 0; d < 3; ++d) {
        if (!is_within(my_row + d - 1, sizes.height)) continue;
        segment.template for_dy<1>(shared.all + (is_second ? rows[d + 1] : rows[d]),
                                   [&](int c, const float(&v)[2]) {
                                     if (d == 1 && c >= 1 && c <= kOutputs) own.add_bias(v);
#pragma unroll
                                     for (int r = 0; r < kOutputs; ++r) {
                                       const int column = r + 2 - c;
                                       if (column < 0 || column > 2) continue;
                                       own.add(out[r], 3 * (2 - d) + column, x[r], v);
                                     }
                                   });
      }
      segment.add(shared.all + way.dx_of(mine), out);
    }
    if (has_second) way.end_row(first_slot);
    way.end_row(slot);
    rows[0] = rows[2];
    rows[1] = rows[3];
    row = second_row + 1 == sizes.height ? 0 : second_row + 1;
  }
  return own;
}

// ---- Sums

/// Adds the sums of the threads that share channels, in the order of their places.
template <int kTaps>
__device__ __forceinline__ void add_sums(const Pair<kTaps>& own, int first_thread, int branch,
                                         int num_places, float2* laid, float* partials) {
  prims::named_barrier_sync(kRowsBarrier, kFirstCopier);  // they go over rows of dy
#pragma unroll
  for (int t = 0; t <= kTaps; ++t) {
    laid[t * kSummers + threadIdx.x] = make_float2(own.sums[t][0], own.sums[t][1]);
  }
  prims::named_barrier_sync(kSumsBarrier, kSummers);
  const Role role = role_of(first_thread, branch, num_places);
  if (!role.is_active) return;
#pragma unroll 1
  for (int t = role.place; t <= kTaps; t += num_places) {
    const float2* from = laid + t * kSummers + first_thread + role.channel / 2;
    float2 sum = make_float2(0.0F, 0.0F);
#pragma unroll 4
    for (int i = 0; i < num_places; ++i, from += branch / 2) {
      sum.x += from->x;
      sum.y += from->y;
    }
    partials[t * branch + role.channel] = sum.x;
    partials[t * branch + role.channel + 1] = sum.y;
  }
}

}  // namespace comet::ops_cuda::mixer::images
