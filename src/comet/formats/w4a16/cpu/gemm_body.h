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

template <class V, int I = 0>
inline void store_nibbles(typename V::Words words, typename V::Table table, float* out) {
  V::store(out + I * V::kLanes, V::template nibble<I>(words, table));
  if constexpr (I + 1 < kNibbles) store_nibbles<V, I + 1>(words, table, out);
}

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
