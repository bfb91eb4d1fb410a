// Body of the w4a16 CPU kernels, included by one file per instruction set (hence the unnamed
// namespace: no code compiled for AVX may serve a baseline caller).
//
// y[m, n] = Σ_k x[m, k] · (u[n, k] − zero[n, k/group]) · scale[n, k/group]; without zero points
// zero = 8. The nibbles u lie in place as the file has them: kLanes words of 8 nibbles are one
// vector, nibble i of all lanes one vector of weights, so inputs are put into that order once per
// call. Two ways to decode:
// - V::kExact: products (u − zero)·scale, exact in FP32 for 16-bit scales, are looked up by nibble
//   (AVX-512, groups of 128) or computed by lane (groups shorter than a vector); the sums run along
//   all of k.
// - else: u·16^i = the nibble in its place, converted; the inputs hold x·16^−i, a group's sums
//   start from −zero·Σx, and total += scale · sums closes each group.
// Many tokens: a strip of decoded weights (products or u·16^i) is multiplied with kStripTokens
// tokens in the same order of additions.
//
// V is the instruction set: Reg, Words, Table, kLanes, kRows × kTokens (register block of many
// tokens), kFew (tokens that share decoded nibbles), kFewTokens, kExact, splat, load, store, mul,
// fma, sum, half, load_words, zero, table, nibble<i>.
#pragma once

#include <stdint.h>

#include "comet/formats/w4a16/cpu/gemm_strip_body.h"

namespace comet::formats::w4a16_cpu {
namespace {

/// R rows × T tokens over all of k; the scales of all groups in FP32: a broadcast from memory takes
/// no port that decoding needs.
template <class V, bool Zeros, int R, int T>
void few_tokens(const GemmArgs& args, int64_t row, int64_t token, const GroupScales& groups) {
  using Reg = typename V::Reg;
  const int64_t step = step_channels<V>(args);
  Reg total[R][T];
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) total[r][t] = V::splat(0.0F);
  }
  const float* x = args.x + token * args.x_stride;
  const uint8_t* words = row_words(args, row);
  const int64_t row_bytes = args.k / 2;
  const int64_t block_bytes = R * row_bytes;  // the next block of rows lies right behind
  const int64_t ahead = (kPrefetchBytes + block_bytes - 1) / block_bytes * block_bytes;
  for (int64_t begin = 0; begin < args.k; begin += step) {
    const int64_t g = begin / args.group;
    typename V::Table tables[R];
    Reg acc[R][T];
    for (int r = 0; r < R; ++r) {
      const int64_t i = r * groups.stride + g;
      __builtin_prefetch(words + r * row_bytes + begin / 2 + ahead);
      tables[r] = V::template table<Zeros>(groups.scales + i, groups.zeros + i, args.group);
      for (int t = 0; t < T; ++t) {
        if constexpr (V::kExact) {
          acc[r][t] = total[r][t];
        } else {
          const float* offset = offsets<V>(args, x + t * args.x_stride, g);
          acc[r][t] = start_of<V, Zeros>(offset, groups.zeros + i);
        }
      }
    }
    for (int64_t c = begin; c < begin + step; c += kVectorChannels<V>) {
      typename V::Words w[R];
      for (int r = 0; r < R; ++r) w[r] = V::load_words(words + r * row_bytes + c / 2);
      add_nibbles<V, R, T>(w, tables, x + c, args.x_stride, acc);
    }
    for (int r = 0; r < R; ++r) {
      for (int t = 0; t < T; ++t) {
        if constexpr (V::kExact) {
          total[r][t] = acc[r][t];
        } else {
          const Reg scale = V::splat(groups.scales[r * groups.stride + g]);
          total[r][t] = V::fma(scale, acc[r][t], total[r][t]);
        }
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) {
      args.out[(token + t) * args.out_stride + row + r] = V::sum(total[r][t]);
    }
  }
}

template <class V, bool Zeros, int R>
void few_tokens_rows(const GemmArgs& args, int64_t row, float* scratch) {
  const int64_t num_groups = args.k / args.group;
  const GroupScales groups{scratch, scratch + R * num_groups, num_groups};
  load_scales<V, Zeros>(args, row, R, 0, groups);
  int64_t token = 0;
  if constexpr (V::kFew >= 4) {
    for (; token + 4 <= args.tokens; token += 4)
      few_tokens<V, Zeros, R, 4>(args, row, token, groups);
  }
  for (; token + 2 <= args.tokens; token += 2) few_tokens<V, Zeros, R, 2>(args, row, token, groups);
  for (; token < args.tokens; ++token) few_tokens<V, Zeros, R, 1>(args, row, token, groups);
}

template <class V, bool Zeros>
void decoded_rows(const GemmArgs& args, int64_t row_begin, int64_t row_end, float* scratch) {
  int64_t row = row_begin;
  if (args.tokens > V::kFewTokens) {
    for (; row < row_end; row += kStripRows) {
      many_tokens<V, Zeros>(args, row, row_end - row < kStripRows ? row_end - row : kStripRows,
                            scratch);
    }
    return;
  }
  for (; row + kBlockRows <= row_end; row += kBlockRows) {
    few_tokens_rows<V, Zeros, kBlockRows>(args, row, scratch);
  }
  for (; row < row_end; ++row) few_tokens_rows<V, Zeros, 1>(args, row, scratch);
}

template <class V>
void gemm_rows(const GemmArgs& args, int64_t row_begin, int64_t row_end, float* scratch) {
  if (V::kAlwaysZeros || args.zeros != nullptr) {
    decoded_rows<V, true>(args, row_begin, row_end, scratch);
  } else if constexpr (!V::kAlwaysZeros) {
    decoded_rows<V, false>(args, row_begin, row_end, scratch);
  }
}

}  // namespace
}  // namespace comet::formats::w4a16_cpu
