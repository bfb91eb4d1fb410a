// What both products of gemm_body.h share: where a row's words, scales and offsets lie, the order
// of inputs, and nibbles decoded into products or into memory.
#pragma once

#include <stdint.h>
#include <string.h>

#include "comet/formats/w4a16/cpu/gemm_args.h"

namespace comet::formats::w4a16_cpu {
namespace {

constexpr int kNibbles = 8;  // of a word
constexpr int kBlockRows = 4;
constexpr int64_t kPrefetchBytes = 8192;  // ahead, in the words of the task

template <class V>
constexpr int64_t kVectorChannels = V::kLanes * kNibbles;  // channels of a vector of words

/// Channels between two closings of a sum: a group, or the vector that holds several.
template <class V>
inline int64_t step_channels(const GemmArgs& args) {
  if constexpr (kVectorChannels<V> >= kBlockChannels) return kBlockChannels;
  return args.group > kVectorChannels<V> ? args.group : kVectorChannels<V>;
}

inline const uint8_t* row_words(const GemmArgs& args, int64_t row) {
  return args.words + row * (args.k / 2);
}

inline float from_bf16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  memcpy(&value, &wide, sizeof(value));
  return value;
}

/// What a row's groups are decoded with: scales as FP32, and zero points as V::zero makes them.
struct GroupScales {
  float* scales;  // [rows][stride]
  float* zeros;   // likewise; unused without zero points
  int64_t stride;
};

/// Groups [begin, begin + stride) of rows [row, row + num_rows).
template <class V, bool Zeros>
void load_scales(const GemmArgs& args, int64_t row, int64_t num_rows, int64_t begin,
                 const GroupScales& out) {
  const int64_t count = out.stride;
  for (int64_t r = 0; r < num_rows; ++r) {
    const int64_t first = (row + r) * (args.k / args.group) + begin;
    float* scales = out.scales + r * count;
    if (args.type == ScaleType::kF32) {
      memcpy(scales, static_cast<const float*>(args.scales) + first,
             sizeof(float) * static_cast<size_t>(count));
    } else {
      const uint16_t* bits = static_cast<const uint16_t*>(args.scales) + first;
      if (args.type == ScaleType::kBF16) {
        for (int64_t g = 0; g < count; ++g) scales[g] = from_bf16(bits[g]);
      } else {
        for (int64_t g = 0; g < count; ++g) scales[g] = V::half(bits[g]);
      }
    }
    if constexpr (Zeros) {
      for (int64_t g = 0; g < count; ++g) {
        const int zero = args.zeros == nullptr ? 8 : args.zeros[first + g];
        out.zeros[r * count + g] = V::zero(static_cast<float>(zero));
      }
    }
  }
}

/// −8·Σx of a group, spread over the lanes as its products are; not V::kExact.
template <class V>
inline const float* offsets(const GemmArgs& args, const float* x, int64_t group) {
  return x + args.k + group * V::kLanes;
}

/// A group's sums start from the offsets, times zero/8 where there are zero points.
template <class V, bool Zeros>
inline typename V::Reg start_of(const float* offset, const float* zero) {
  if constexpr (Zeros) return V::mul(V::load(offset), V::splat(*zero));
  return V::load(offset);
}

template <class V>
void arrange_row(const GemmArgs& args, const float* x, float* out) {
  memset(out + args.k, 0, sizeof(float) * static_cast<size_t>(args.x_stride - args.k));
  for (int64_t begin = 0; begin < args.k; begin += kVectorChannels<V>) {
    float factor = 1.0F;  // 16^−i
    for (int64_t i = 0; i < kNibbles; ++i) {
      for (int64_t j = 0; j < V::kLanes; ++j) {
        const float value = x[begin + kNibbles * j + i];
        out[begin + i * V::kLanes + j] = value * factor;
        if constexpr (!V::kExact) {
          out[args.k + begin / args.group * V::kLanes + j] -= 8.0F * value;
        }
      }
      // The last nibble is shifted down rather than converted in its place.
      if constexpr (!V::kExact) factor = i + 2 == kNibbles ? 1.0F : factor * 0.0625F;
    }
  }
}

/// acc[r][t] += nibble I and those above it of words[r] · x[t].
template <class V, int R, int T, int I = 0>
[[gnu::always_inline]] inline void add_nibbles(const typename V::Words (&words)[R],
                                               const typename V::Table (&tables)[R], const float* x,
                                               int64_t x_stride, typename V::Reg (&acc)[R][T]) {
  typename V::Reg xt[T];
  for (int t = 0; t < T; ++t) xt[t] = V::load(x + t * x_stride + I * V::kLanes);
  for (int r = 0; r < R; ++r) {
    const typename V::Reg w = V::template nibble<I>(words[r], tables[r]);
    for (int t = 0; t < T; ++t) acc[r][t] = V::fma(w, xt[t], acc[r][t]);
  }
  if constexpr (I + 1 < kNibbles) add_nibbles<V, R, T, I + 1>(words, tables, x, x_stride, acc);
}

template <class V, int I = 0>
inline void store_nibbles(typename V::Words words, typename V::Table table, float* out) {
  V::store(out + I * V::kLanes, V::template nibble<I>(words, table));
  if constexpr (I + 1 < kNibbles) store_nibbles<V, I + 1>(words, table, out);
}

}  // namespace
}  // namespace comet::formats::w4a16_cpu
