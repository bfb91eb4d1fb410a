// The many-token product of gemm_body.h: a strip of weights is decoded once and multiplied with
// kStripTokens tokens; the vector sums wait in scratch between strips of channels.
#pragma once

#include <stdint.h>
#include <string.h>

#include "comet/formats/w4a16/cpu/gemm_decode_body.h"

namespace comet::formats::w4a16_cpu {
namespace {

/// Weights [row, row + num_rows) × [k_begin, k_begin + count), decoded, in arranged order.
template <class V, ScaleType Type>
void decode_strip(const GemmArgs& args, int64_t row, int64_t num_rows, int64_t k_begin,
                  int64_t count, float* strip) {
  for (int64_t r = 0; r < num_rows; ++r) {
    const uint8_t* words = row_words(args, row + r) + k_begin / 2;
    for (int64_t i = 0; i < count; i += kVectorChannels<V>) {
      const auto table = V::table(scale_of<V, Type>(args, row + r, (k_begin + i) / kGroup));
      store_nibbles<V>(V::load_words(words + i / 2), table, strip + r * kStripStride + i);
    }
  }
}

/// A strip and the block of it that is being multiplied.
struct Strip {
  const GemmArgs& args;
  const float* weights;  // [rows, kStripStride] from the block's first row
  int64_t row;           // the block's first row
  int64_t k_begin;
  int64_t count;  // channels
};

/// sums[r][t] += strip · x of tokens from `token` on; sums are vectors, one per output.
template <class V, ScaleType Type, int R, int T>
void multiply_block(const Strip& strip, int64_t token, float* sums) {
  using Reg = typename V::Reg;
  const GemmArgs& args = strip.args;
  const float* x = args.x + token * args.x_stride;
  Reg acc[R][T];
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) acc[r][t] = V::load(sums + (r * kStripTokens + t) * kMaxLanes);
  }
  for (int64_t i = 0; i < strip.count; i += kGroup) {
    const int64_t group = (strip.k_begin + i) / kGroup;
    if constexpr (!V::kExact) {
      for (int t = 0; t < T; ++t) {
        const Reg start = V::load(offsets<V>(args, x + t * args.x_stride, group));
        for (int r = 0; r < R; ++r) acc[r][t] = start;
      }
    }
    for (int64_t c = i; c < i + kGroup; c += V::kLanes) {
      Reg xt[T];
      for (int t = 0; t < T; ++t) xt[t] = V::load(x + t * args.x_stride + strip.k_begin + c);
      for (int r = 0; r < R; ++r) {
        const Reg w = V::load(strip.weights + r * kStripStride + c);
        for (int t = 0; t < T; ++t) acc[r][t] = V::fma(w, xt[t], acc[r][t]);
      }
    }
    if constexpr (!V::kExact) {
      for (int r = 0; r < R; ++r) {
        const Reg scale = V::splat(scale_of<V, Type>(args, strip.row + r, group));
        for (int t = 0; t < T; ++t) {
          float* total = sums + (r * kStripTokens + t) * kMaxLanes;
          V::store(total, V::fma(scale, acc[r][t], V::load(total)));
        }
      }
    }
  }
  if constexpr (V::kExact) {
    for (int r = 0; r < R; ++r) {
      for (int t = 0; t < T; ++t) V::store(sums + (r * kStripTokens + t) * kMaxLanes, acc[r][t]);
    }
  }
}

/// multiply_block<V, Type, R, T> of `num` tokens, T = num.
template <class V, ScaleType Type, int R, int T = V::kTokens>
void multiply_group(int64_t num, const Strip& strip, int64_t token, float* sums) {
  if constexpr (T == 1) {
    multiply_block<V, Type, R, 1>(strip, token, sums);
  } else if (num == T) {
    multiply_block<V, Type, R, T>(strip, token, sums);
  } else {
    multiply_group<V, Type, R, T - 1>(num, strip, token, sums);
  }
}

/// `num_tokens` tokens from `first` on, in groups of about equal size.
template <class V, ScaleType Type, int R>
void multiply_tokens(const Strip& strip, int64_t first, int64_t num_tokens, float* sums) {
  const int64_t groups = (num_tokens + V::kTokens - 1) / V::kTokens;
  const int64_t size = (num_tokens + groups - 1) / groups;
  for (int64_t t = 0; t < num_tokens; t += size) {
    const int64_t num = num_tokens - t < size ? num_tokens - t : size;
    multiply_group<V, Type, R>(num, strip, first + t, sums + t * kMaxLanes);
  }
}

/// kStripRows rows at most, all tokens.
template <class V, ScaleType Type>
void many_tokens(const GemmArgs& args, int64_t row, int64_t num_rows, float* scratch) {
  float* weights = scratch;
  float* sums = scratch + kStripRows * kStripStride;
  for (int64_t token = 0; token < args.tokens; token += kStripTokens) {
    const int64_t left_tokens = args.tokens - token;
    const int64_t num_tokens = left_tokens < kStripTokens ? left_tokens : kStripTokens;
    for (int64_t r = 0; r < num_rows; ++r) {
      memset(sums + r * kStripTokens * kMaxLanes, 0,
             sizeof(float) * static_cast<size_t>(num_tokens * kMaxLanes));
    }
    for (int64_t k = 0; k < args.k; k += kStripChannels) {
      const int64_t count = args.k - k < kStripChannels ? args.k - k : kStripChannels;
      decode_strip<V, Type>(args, row, num_rows, k, count, weights);
      for (int64_t r = 0; r < num_rows;) {
        const Strip strip{args, weights + r * kStripStride, row + r, k, count};
        float* block_sums = sums + r * kStripTokens * kMaxLanes;
        if (r + kBlockRows <= num_rows) {
          multiply_tokens<V, Type, kBlockRows>(strip, token, num_tokens, block_sums);
          r += kBlockRows;
        } else {
          multiply_tokens<V, Type, 1>(strip, token, num_tokens, block_sums);
          ++r;
        }
      }
    }
    for (int64_t t = 0; t < num_tokens; ++t) {
      float* out = args.out + (token + t) * args.out_stride + row;
      for (int64_t r = 0; r < num_rows; ++r) {
        out[r] = V::sum(V::load(sums + (r * kStripTokens + t) * kMaxLanes));
      }
    }
  }
}

}  // namespace
}  // namespace comet::formats::w4a16_cpu
