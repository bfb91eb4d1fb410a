// Body of the w4a16 CPU kernels, included by one file per instruction set (hence the unnamed
// namespace: no code compiled for AVX may serve a baseline caller).
//
// y[m, n] = Σ_k x[m, k] · q[n, k]·scale[n, k/128]. A group of 128 channels is 64 bytes, in place as
// the file has them: kLanes words of 8 nibbles are one vector, nibble i of all lanes one vector of
// weights, so inputs are put into that order once per call. Two ways to decode:
// - V::kExact (AVX-512): a table of the 16 values q·scale, exact in FP32, looked up by nibble; the
//   sums run along all of k.
// - else: u·16^i = the nibble in its place, converted (q = u − 8); the inputs hold x·16^−i, a
//   group's sums start from −8·Σx, and total += scale · sums closes each group.
// Many tokens: a strip of decoded weights (q·scale or u·16^i) is multiplied with kStripTokens
// tokens in the same order of additions.
//
// V is the instruction set: Reg, Words, Table, kLanes, kRows × kTokens (register block of many
// tokens), kFew (tokens that share decoded nibbles), kFewTokens, kExact,
// splat, load, store, fma, sum, half, load_words, table, nibble<i>.
#pragma once

#include <stdint.h>

#include "comet/formats/w4a16/cpu/gemm_strip_body.h"

namespace comet::formats::w4a16_cpu {
namespace {

/// R rows × T tokens over all of k; row_scales [R, groups] in FP32: a broadcast from memory takes
/// no port that decoding needs.
template <class V, int R, int T>
void few_tokens(const GemmArgs& args, int64_t row, int64_t token, const float* row_scales) {
  using Reg = typename V::Reg;
  const int64_t num_groups = args.k / kGroup;
  Reg total[R][T];
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) total[r][t] = V::splat(0.0F);
  }
  const float* x = args.x + token * args.x_stride;
  const uint8_t* words = row_words(args, row);
  const int64_t row_bytes = args.k / 2;
  const int64_t block_bytes = R * row_bytes;  // the next block of rows lies right behind
  const int64_t ahead = (kPrefetchBytes + block_bytes - 1) / block_bytes * block_bytes;
  for (int64_t g = 0; g < num_groups; ++g) {
    typename V::Table tables[R];
    Reg acc[R][T];
    for (int r = 0; r < R; ++r) {
      __builtin_prefetch(words + r * row_bytes + g * kGroupBytes + ahead);
      tables[r] = V::table(row_scales[r * num_groups + g]);
      for (int t = 0; t < T; ++t) {
        if constexpr (V::kExact) {
          acc[r][t] = total[r][t];
        } else {
          acc[r][t] = V::load(offsets<V>(args, x + t * args.x_stride, g));
        }
      }
    }
    for (int64_t i = 0; i < kGroup; i += kVectorChannels<V>) {
      typename V::Words w[R];
      for (int r = 0; r < R; ++r) {
        w[r] = V::load_words(words + r * row_bytes + g * kGroupBytes + i / 2);
      }
      add_nibbles<V, R, T>(w, tables, x + g * kGroup + i, args.x_stride, acc);
    }
    for (int r = 0; r < R; ++r) {
      for (int t = 0; t < T; ++t) {
        if constexpr (V::kExact) {
          total[r][t] = acc[r][t];
        } else {
          const Reg scale = V::splat(row_scales[r * num_groups + g]);
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

template <class V, ScaleType Type, int R>
void few_tokens_rows(const GemmArgs& args, int64_t row, float* row_scales) {
  const int64_t num_groups = args.k / kGroup;
  for (int64_t r = 0; r < R; ++r) {
    for (int64_t g = 0; g < num_groups; ++g) {
      row_scales[r * num_groups + g] = scale_of<V, Type>(args, row + r, g);
    }
  }
  int64_t token = 0;
  if constexpr (V::kFew >= 4) {
    for (; token + 4 <= args.tokens; token += 4) few_tokens<V, R, 4>(args, row, token, row_scales);
  }
  for (; token + 2 <= args.tokens; token += 2) few_tokens<V, R, 2>(args, row, token, row_scales);
  for (; token < args.tokens; ++token) few_tokens<V, R, 1>(args, row, token, row_scales);
}

template <class V, ScaleType Type>
void typed_rows(const GemmArgs& args, int64_t row_begin, int64_t row_end, float* scratch) {
  int64_t row = row_begin;
  if (args.tokens > V::kFewTokens) {
    for (; row < row_end; row += kStripRows) {
      many_tokens<V, Type>(args, row, row_end - row < kStripRows ? row_end - row : kStripRows,
                           scratch);
    }
    return;
  }
  for (; row + kBlockRows <= row_end; row += kBlockRows) {
    few_tokens_rows<V, Type, kBlockRows>(args, row, scratch);
  }
  for (; row < row_end; ++row) few_tokens_rows<V, Type, 1>(args, row, scratch);
}

template <class V>
void gemm_rows(const GemmArgs& args, int64_t row_begin, int64_t row_end, float* scratch) {
  if (args.type == ScaleType::kBF16) {
    typed_rows<V, ScaleType::kBF16>(args, row_begin, row_end, scratch);
  } else {
    typed_rows<V, ScaleType::kF16>(args, row_begin, row_end, scratch);
  }
}

}  // namespace
}  // namespace comet::formats::w4a16_cpu
