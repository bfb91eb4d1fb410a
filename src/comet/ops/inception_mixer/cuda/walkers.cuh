// Walkers of the Inception mixer: a thread makes kOutputs neighbouring outputs of kVec channels, so
// that each input along its way is read and widened once. Callers: mixer.cu, mixer_backward.cu.
// Geometry: an image is cut into bands of kOutputs rows. Of a band, threads [0, 85) of a CTA do the
// 3×3 branch (a walker goes down a column), [85, 170) 1×k (along a row), [170, 255) k×1 (down a
// column); a thread keeps its channels and takes every num_slots-th walker.
#pragma once

#include "comet/ops/cuda/bf16_vectors.cuh"
#include "comet/ops/cuda/image_launches.h"

namespace comet::ops_cuda::mixer {

constexpr int kOutputs = 7;
constexpr int kMixerThreads = 256;  // with two CTAs on an SM 128 registers each
constexpr int kBranchThreads = kMixerThreads / 3;

enum Branch { kSquare, kBandW, kBandH };

/// How a launch is cut: blockIdx.x takes bands, blockIdx.y a chunk of every branch's channels (and
/// its share of the channels that are kept).
struct Cut {
  int32_t bands_per_image = 0;
  int32_t num_bands = 0;
  int32_t vecs = 0;        // vectors of a branch
  int32_t chunk_vecs = 0;  // of them per blockIdx.y; at most kBranchThreads
  int32_t num_chunks = 0;
};

/// What a thread does in every band.
struct Role {
  Branch branch = kSquare;
  int vec = 0;  // of the branch
  int slot = 0;
  int num_slots = 0;
  bool is_active = false;
};

__device__ __forceinline__ Role role_of_thread(const Cut& cut) {
  Role role;
  role.branch = static_cast<Branch>(threadIdx.x / kBranchThreads);
  const int rank = static_cast<int>(threadIdx.x) % kBranchThreads;
  const int first = static_cast<int>(blockIdx.y) * cut.chunk_vecs;
  const int vecs = max(1, min(cut.chunk_vecs, cut.vecs - first));
  role.num_slots = kBranchThreads / vecs;
  role.vec = first + rank % vecs;
  role.slot = rank / vecs;
  role.is_active = role.slot < role.num_slots && cut.vecs > 0 && role.branch <= kBandH;
  return role;
}

__device__ __forceinline__ const float* weight_of(const MixerArgs& args, Branch branch) {
  if (branch == kSquare) return args.square.weight;
  return branch == kBandW ? args.band_w.weight : args.band_h.weight;
}

__device__ __forceinline__ const float* bias_of(const MixerArgs& args, Branch branch) {
  if (branch == kSquare) return args.square.bias;
  return branch == kBandW ? args.band_w.bias : args.band_h.bias;
}

/// One band of one image.
struct BandPlace {
  int64_t image_at = 0;  // element of the image's first pixel
  int first_row = 0;
  int rows = 0;
};

__device__ __forceinline__ BandPlace band_place(const ImageSizes& sizes, const Cut& cut, int band) {
  const int image = band / cut.bands_per_image;
  BandPlace place;
  place.image_at = static_cast<int64_t>(image) * sizes.height * sizes.width * sizes.channels;
  place.first_row = (band - image * cut.bands_per_image) * kOutputs;
  place.rows = min(kOutputs, sizes.height - place.first_row);
  return place;
}

/// Where a walker of a band branch goes: outputs first … first + kOutputs − 1 that are below limit,
/// coordinate c at element `line + c · step` of the tensor.
struct Line {
  int64_t line = 0;
  int step = 0;
  int first = 0;
  int limit = 0;
};

__device__ __forceinline__ int num_walkers(const ImageSizes& sizes, const BandPlace& place,
                                           Branch branch) {
  if (branch != kBandW) return sizes.width;
  return place.rows * ((sizes.width + kOutputs - 1) / kOutputs);
}

__device__ __forceinline__ Line line_of(const ImageSizes& sizes, const BandPlace& place,
                                        Branch branch, int walker) {
  const int pitch = sizes.width * sizes.channels;
  if (branch == kBandH) {
    return {place.image_at + static_cast<int64_t>(walker) * sizes.channels, pitch, place.first_row,
            sizes.height};
  }
  const int segments = (sizes.width + kOutputs - 1) / kOutputs;
  const int row = walker / segments;
  return {place.image_at + static_cast<int64_t>(place.first_row + row) * pitch, sizes.channels,
          (walker - row * segments) * kOutputs, sizes.width};
}

/// kAdd: added to what is there.
template <bool kAdd, int kVec>
__device__ __forceinline__ void put_channels(uint16_t* p, const float (&v)[kVec]) {
  if constexpr (kAdd) {
    add_channels(p, v);
  } else {
    store_channels(p, v);
  }
}

template <bool kAdd, int kVec>
__device__ __forceinline__ void store_line(uint16_t* out, const Line& line,
                                           const float (&sums)[kOutputs][kVec]) {
  uint16_t* p = out + line.line + static_cast<int64_t>(line.first) * line.step;
#pragma unroll
  for (int r = 0; r < kOutputs; ++r) {
    if (line.first + r < line.limit) put_channels<kAdd>(p, sums[r]);
    p += line.step;
  }
}

/// Calls use(i, v) with x at coordinates line.first − kBand / 2 + i, i < kBand + kOutputs − 1,
/// zeros outside of the image.
template <int kVec, int kBand, typename Use>
__device__ __forceinline__ void for_inputs(const uint16_t* x, const Line& line, const Use& use) {
  const int first = line.first - kBand / 2;
  const uint16_t* p = x + line.line + static_cast<int64_t>(first) * line.step;
#pragma unroll
  for (int i = 0; i < kBand + kOutputs - 1; ++i) {
    float v[kVec];
    load_channels_if(v, p, static_cast<unsigned>(first + i) < static_cast<unsigned>(line.limit));
    p += line.step;
    use(i, v);
  }
}

/// sums[r] += Σ_t w[t] · x[r + t]; kFlip: w[kBand − 1 − t], the transposed convolution. weight: tap
/// 0 of the thread's channels, taps `branch` apart. Each input is used where it is loaded.
template <int kVec, int kBand, bool kFlip>
__device__ __forceinline__ void convolve_line(float (&sums)[kOutputs][kVec], const uint16_t* x,
                                              const Line& line, const float* weight, int branch) {
  float w[kBand][kVec];
#pragma unroll
  for (int t = 0; t < kBand; ++t) load_weights(w[t], weight + (kFlip ? kBand - 1 - t : t) * branch);
  for_inputs<kVec, kBand>(x, line, [&](int i, const float(&v)[kVec]) {
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      if (i - r >= 0 && i - r < kBand) fma_channels(sums[r], w[i - r], v);
    }
  });
}

/// The same for any band, one output after the other.
template <int kVec, bool kFlip>
__device__ __forceinline__ void convolve_any_line(float (&sums)[kOutputs][kVec], const uint16_t* x,
                                                  const Line& line, const float* weight, int branch,
                                                  int band) {
#pragma unroll 1
  for (int t = 0; t < band; ++t) {
    float w[kVec];
    load_weights(w, weight + (kFlip ? band - 1 - t : t) * branch);
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
      const int at = line.first + r + t - band / 2;
      float v[kVec];
      load_channels_if(v, x + line.line + static_cast<int64_t>(at) * line.step,
                       at >= 0 && at < line.limit);
      fma_channels(sums[r], w, v);
    }
  }
}

/// A pixel of the row above the band, and whether its columns and rows exist.
struct Column {
  int64_t corner = 0;  // element of (first_row − 1, column − 1); may lie before the image
  int first_row = 0;
  int column = 0;
};

__device__ __forceinline__ Column column_of(const ImageSizes& sizes, const BandPlace& place,
                                            int column) {
  const int64_t pixel = static_cast<int64_t>(place.first_row - 1) * sizes.width + column - 1;
  return {place.image_at + pixel * sizes.channels, place.first_row, column};
}

/// Row i of the kOutputs + 2 that a 3×3 walker reads.
template <int kVec>
__device__ __forceinline__ void load_square_row(float (&v)[3][kVec], const uint16_t* x,
                                                const ImageSizes& sizes, const Column& column,
                                                int i) {
  const int row = column.first_row - 1 + i;
  const bool has_row = static_cast<unsigned>(row) < static_cast<unsigned>(sizes.height);
  const uint16_t* p = x + column.corner + static_cast<int64_t>(i) * sizes.width * sizes.channels;
#pragma unroll
  for (int dx = 0; dx < 3; ++dx) {
    const int at = column.column - 1 + dx;
    load_channels_if(v[dx], p + dx * sizes.channels,
                     has_row && static_cast<unsigned>(at) < static_cast<unsigned>(sizes.width));
  }
}

template <bool kAdd, int kVec>
__device__ __forceinline__ void store_column(uint16_t* out, const ImageSizes& sizes,
                                             const Column& column,
                                             const float (&sums)[kOutputs][kVec]) {
  const int pitch = sizes.width * sizes.channels;
  uint16_t* p = out + column.corner + pitch + sizes.channels;
#pragma unroll
  for (int r = 0; r < kOutputs; ++r) {
    if (column.first_row + r < sizes.height) {
      put_channels<kAdd>(p + static_cast<int64_t>(r) * pitch, sums[r]);
    }
  }
}

/// sums[r] += the 3×3 neighbourhood of output r; kFlip as above.
template <int kVec, bool kFlip>
__device__ __forceinline__ void convolve_column(float (&sums)[kOutputs][kVec], const uint16_t* x,
                                                const ImageSizes& sizes, const Column& column,
                                                const float* weight, int branch) {
  float w[9][kVec];
#pragma unroll
  for (int t = 0; t < 9; ++t) load_weights(w[t], weight + (kFlip ? 8 - t : t) * branch);
#pragma unroll
  for (int i = 0; i < kOutputs + 2; ++i) {
    float v[3][kVec];
    load_square_row(v, x, sizes, column, i);
#pragma unroll
    for (int dy = 0; dy < 3; ++dy) {
      const int r = i - dy;
      if (r < 0 || r >= kOutputs) continue;
#pragma unroll
      for (int dx = 0; dx < 3; ++dx) fma_channels(sums[r], w[3 * dy + dx], v[dx]);
    }
  }
}

__device__ __forceinline__ uint4 add_bf16(const uint4& a, const uint4& b) {
  const auto sum = [](uint32_t x, uint32_t y) {
    float x_low, x_high, y_low, y_high;
    widen(x_low, x_high, x);
    widen(y_low, y_high, y);
    return prims::bf16x2_of(x_low + y_low, x_high + y_high);
  };
  return make_uint4(sum(a.x, b.x), sum(a.y, b.y), sum(a.z, b.z), sum(a.w, b.w));
}

/// Copies (kAdd: adds) the kept channels of this CTA's share of the band's pixels: 16 bytes a time
/// where rows are aligned, then vectors.
template <bool kAdd, int kVec>
__device__ __forceinline__ void copy_kept(uint16_t* out, const uint16_t* x, const ImageSizes& sizes,
                                          const BandPlace& place, int num_kept, bool is_wide) {
  const int num_pixels = place.rows * sizes.width;
  const auto num_shares = static_cast<int>(gridDim.y);
  const int begin = num_pixels * static_cast<int>(blockIdx.y) / num_shares;
  const int end = num_pixels * (static_cast<int>(blockIdx.y) + 1) / num_shares;
  const int num_wide = is_wide ? num_kept / 8 : 0;
  const int num_items = num_wide + (num_kept - 8 * num_wide) / kVec;
  if (num_items == 0) return;
  const int num_lanes = min(num_items, kMixerThreads);
  const int pixels_per_pass = kMixerThreads / num_lanes;
  const int first_pixel = static_cast<int>(threadIdx.x) / num_lanes;
  if (first_pixel >= pixels_per_pass) return;
  const int64_t at =
      place.image_at + static_cast<int64_t>(place.first_row) * sizes.width * sizes.channels;
  for (int item = static_cast<int>(threadIdx.x) % num_lanes; item < num_items; item += num_lanes) {
    const bool wide = item < num_wide;
    const int channel = wide ? item * 8 : num_wide * 8 + (item - num_wide) * kVec;
    const uint16_t* from = x + at + channel;
    uint16_t* to = out + at + channel;
    constexpr int kBatch = 4;
    for (int pixel = begin + first_pixel; pixel < end; pixel += kBatch * pixels_per_pass) {
      if (wide) {
        uint4 bits[kBatch];
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          const int p = pixel + i * pixels_per_pass;
          if (p >= end) continue;
          bits[i] = *reinterpret_cast<const uint4*>(from + p * sizes.channels);
          if constexpr (kAdd) {
            bits[i] = add_bf16(bits[i], *reinterpret_cast<const uint4*>(to + p * sizes.channels));
          }
        }
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          const int p = pixel + i * pixels_per_pass;
          if (p < end) *reinterpret_cast<uint4*>(to + p * sizes.channels) = bits[i];
        }
      } else {
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          const int p = pixel + i * pixels_per_pass;
          if (p >= end) continue;
          float v[kVec];
          load_channels(v, from + p * sizes.channels);
          put_channels<kAdd>(to + p * sizes.channels, v);
        }
      }
    }
  }
}

}  // namespace comet::ops_cuda::mixer
