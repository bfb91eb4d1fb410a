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

inline const uint8_t* row_words(const GemmArgs& args, int64_t row) {
  return args.words + row * (args.k / 2);
}

template <class V, ScaleType Type>
inline float scale_of(const GemmArgs& args, int64_t row, int64_t group) {
  const uint16_t bits = args.scales[row * (args.k / kGroup) + group];
  if constexpr (Type == ScaleType::kF16) return V::half(bits);
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float scale;
  memcpy(&scale, &wide, sizeof(scale));
  return scale;
}

/// −8·Σx of a group, spread over the lanes as its products are; not V::kExact.
template <class V>
inline const float* offsets(const GemmArgs& args, const float* x, int64_t group) {
  return x + args.k + group * V::kLanes;
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
        if constexpr (!V::kExact) out[args.k + begin / kGroup * V::kLanes + j] -= 8.0F * value;
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
