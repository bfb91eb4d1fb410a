// The many-token product of gemm_body.h: a strip of weights is decoded once and multiplied with
// kStripTokens tokens; the vector sums wait in scratch between strips of channels.
#pragma once

#include <stdint.h>
#include <string.h>

#include "comet/formats/w4a16/cpu/gemm_decode_body.h"

namespace comet::formats::w4a16_cpu {
namespace {

/// Weights [row, row + num_rows) × [k_begin, k_begin + count), decoded, in arranged order.
template <class V, bool Zeros>
void decode_strip(const GemmArgs& args, int64_t row, int64_t num_rows, int64_t k_begin,
                  int64_t count, const GroupScales& groups, float* strip) {
  for (int64_t r = 0; r < num_rows; ++r) {
    const uint8_t* words = row_words(args, row + r) + k_begin / 2;
    for (int64_t i = 0; i < count; i += kVectorChannels<V>) {
      const int64_t group = r * groups.stride + i / args.group;
      const auto table =
          V::template table<Zeros>(groups.scales + group, groups.zeros + group, args.group);
      store_nibbles<V>(V::load_words(words + i / 2), table, strip + r * kStripStride + i);
    }
  }
}

/// A strip and the block of it that is being multiplied.
struct Strip {
  const GemmArgs& args;
  const float* weights;  // [rows, kStripStride] from the block's first row
  GroupScales groups;    // from the block's first row
  int64_t k_begin;
  int64_t count;  // channels
};

/// sums[r][t] += strip · x of tokens from `token` on; sums are vectors, one per output.
template <class V, bool Zeros, int R, int T>
void multiply_block(const Strip& strip, int64_t token, float* sums) {
  using Reg = typename V::Reg;
  const GemmArgs& args = strip.args;
  const int64_t step = V::kExact ? kBlockChannels : args.group;
  const float* x = args.x + token * args.x_stride;
  Reg acc[R][T];
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) acc[r][t] = V::load(sums + (r * kStripTokens + t) * kMaxLanes);
  }
  for (int64_t i = 0; i < strip.count; i += step) {
    const int64_t group = i / args.group;
    if constexpr (!V::kExact) {
      for (int t = 0; t < T; ++t) {
        const float* offset =
            offsets<V>(args, x + t * args.x_stride, strip.k_begin / args.group + group);
        for (int r = 0; r < R; ++r) {
          acc[r][t] =
              start_of<V, Zeros>(offset, strip.groups.zeros + r * strip.groups.stride + group);
        }
      }
    }
    for (int64_t c = i; c < i + step; c += V::kLanes) {
      Reg xt[T];
      for (int t = 0; t < T; ++t) xt[t] = V::load(x + t * args.x_stride + strip.k_begin + c);
      for (int r = 0; r < R; ++r) {
        const Reg w = V::load(strip.weights + r * kStripStride + c);
        for (int t = 0; t < T; ++t) acc[r][t] = V::fma(w, xt[t], acc[r][t]);
      }
    }
    if constexpr (!V::kExact) {
      for (int r = 0; r < R; ++r) {
        const Reg scale = V::splat(strip.groups.scales[r * strip.groups.stride + group]);
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

/// multiply_block<V, Zeros, R, T> of `num` tokens, T = num.
template <class V, bool Zeros, int R, int T = V::kTokens>
void multiply_group(int64_t num, const Strip& strip, int64_t token, float* sums) {
  if constexpr (T == 1) {
    multiply_block<V, Zeros, R, 1>(strip, token, sums);
  } else if (num == T) {
    multiply_block<V, Zeros, R, T>(strip, token, sums);
  } else {
    multiply_group<V, Zeros, R, T - 1>(num, strip, token, sums);
  }
}

/// `num_tokens` tokens from `first` on, in groups of about equal size.
template <class V, bool Zeros, int R>
void multiply_tokens(const Strip& strip, int64_t first, int64_t num_tokens, float* sums) {
  const int64_t groups = (num_tokens + V::kTokens - 1) / V::kTokens;
  const int64_t size = (num_tokens + groups - 1) / groups;
  for (int64_t t = 0; t < num_tokens; t += size) {
    const int64_t num = num_tokens - t < size ? num_tokens - t : size;
    multiply_group<V, Zeros, R>(num, strip, first + t, sums + t * kMaxLanes);
  }
}

/// One strip of channels, all rows; sums [num_rows][kStripTokens][kMaxLanes].
template <class V, bool Zeros>
void multiply_strip(const Strip& strip, int64_t num_rows, int64_t token, int64_t num_tokens,
                    float* sums) {
  // A decoded product knows its zero point already.
  constexpr bool kZeroStarts = Zeros && !V::kExact;
  for (int64_t r = 0; r < num_rows;) {
    Strip block = strip;
    block.weights += r * kStripStride;
    block.groups.scales += r * strip.groups.stride;
    block.groups.zeros += r * strip.groups.stride;
    float* block_sums = sums + r * kStripTokens * kMaxLanes;
    if (r + kBlockRows <= num_rows) {
      multiply_tokens<V, kZeroStarts, kBlockRows>(block, token, num_tokens, block_sums);
      r += kBlockRows;
    } else {
      multiply_tokens<V, kZeroStarts, 1>(block, token, num_tokens, block_sums);
      ++r;
    }
  }
}

/// kStripRows rows at most, all tokens.
template <class V, bool Zeros>
void many_tokens(const GemmArgs& args, int64_t row, int64_t num_rows, float* scratch) {
  float* weights = scratch;
  float* sums = weights + kStripRows * kStripStride;
  float* scales = sums + kStripRows * kStripTokens * kMaxLanes;
  for (int64_t token = 0; token < args.tokens; token += kStripTokens) {
    const int64_t left_tokens = args.tokens - token;
    const int64_t num_tokens = left_tokens < kStripTokens ? left_tokens : kStripTokens;
    for (int64_t r = 0; r < num_rows; ++r) {
      memset(sums + r * kStripTokens * kMaxLanes, 0,
             sizeof(float) * static_cast<size_t>(num_tokens * kMaxLanes));
    }
    for (int64_t k = 0; k < args.k; k += kStripChannels) {
      const int64_t count = args.k - k < kStripChannels ? args.k - k : kStripChannels;
      const GroupScales groups{scales, scales + kStripRows * kStripGroups, count / args.group};
      load_scales<V, Zeros>(args, row, num_rows, k / args.group, groups);
      decode_strip<V, Zeros>(args, row, num_rows, k, count, groups, weights);
      multiply_strip<V, Zeros>({args, weights, groups, k, count}, num_rows, token, num_tokens,
                               sums);
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
