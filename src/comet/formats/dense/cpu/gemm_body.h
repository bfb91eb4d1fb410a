// Body of the dense CPU kernels, included by one file per instruction set (hence the unnamed
// namespace: no code compiled for AVX may serve a baseline caller).
//
// y[m, n] = Σ_k x[m, k] · w[n, k]; both operands lie along k, so vectors run along k and an output
// is one vector of partial sums, added up at the end. Few tokens: R rows × T tokens straight from
// memory. Many tokens: a strip of kStripRows × kStripChannels weights is converted to FP32 once and
// multiplied with kStripTokens tokens; the vector sums wait in scratch between strips of channels,
// which keeps the order of additions of the few-token case.
//
// V is the instruction set: Reg, kLanes, kTokens (T of the register block), zero, load, store, fma,
// sum, bf16_pair, half, e4m3_pair; sum_16 where sixteen vectors are added up at once.
#pragma once

#include <stdint.h>
#include <string.h>

#include "comet/formats/dense/cpu/gemm_args.h"

namespace comet::formats::dense_cpu {
namespace {

constexpr int kBlockRows = 4;

/// Two vectors of weights from 2·kLanes stored values at element i of `row`.
template <class V, WeightType Type>
inline void load_pair(const void* row, int64_t i, typename V::Reg& first, typename V::Reg& second) {
  if constexpr (Type == WeightType::kBF16) {
    V::bf16_pair(static_cast<const uint16_t*>(row) + i, first, second);
  } else if constexpr (Type == WeightType::kF16) {
    first = V::half(static_cast<const uint16_t*>(row) + i);
    second = V::half(static_cast<const uint16_t*>(row) + i + V::kLanes);
  } else if constexpr (Type == WeightType::kE4M3) {
    V::e4m3_pair(static_cast<const uint8_t*>(row) + i, first, second);
  } else {
    first = V::load(static_cast<const float*>(row) + i);
    second = V::load(static_cast<const float*>(row) + i + V::kLanes);
  }
}

template <WeightType Type>
constexpr int64_t kTypeBytes = Type == WeightType::kF32    ? 4
                               : Type == WeightType::kE4M3 ? 1
                                                           : 2;

inline const char* row_pointer(const GemmArgs& args, int64_t row, int64_t bytes) {
  return static_cast<const char*>(args.weight) + row * args.k * bytes;
}

template <class V>
void arrange_row(const GemmArgs& args, const float* x, float* out) {
  constexpr int64_t kPair = 2 * V::kLanes;
  // The last, incomplete pair and the padding.
  const int64_t whole = args.k / kPair * kPair;
  memset(out + whole, 0, sizeof(float) * static_cast<size_t>(args.x_stride - whole));
  if (args.type != WeightType::kBF16) {
    memcpy(out, x, sizeof(float) * static_cast<size_t>(args.k));
    return;
  }
  int64_t i = 0;
  for (; i + kPair <= args.k; i += kPair) {
    for (int64_t j = 0; j < V::kLanes; ++j) {
      out[i + j] = x[i + 2 * j];
      out[i + V::kLanes + j] = x[i + 2 * j + 1];
    }
  }
  for (int64_t j = i; j < args.k; ++j) {
    out[i + (j - i) / 2 + ((j - i) % 2 != 0 ? V::kLanes : 0)] = x[j];
  }
}

template <class V>
void arrange_e4m3_row(const GemmArgs& args, const uint8_t* x, float* out) {
  constexpr int64_t kPair = 2 * V::kLanes;
  memset(out + args.k_arranged, 0, sizeof(float) * kStridePadding);
  for (int64_t i = 0; i < args.k_arranged; i += kPair) {
    uint8_t padded[kPair] = {};
    const int64_t left = args.k - i;
    if (left < kPair && left > 0) memcpy(padded, x + i, static_cast<size_t>(left));
    typename V::Reg first;
    typename V::Reg second;
    V::e4m3_pair(left < kPair ? padded : x + i, first, second);
    V::store(out + i, first);
    V::store(out + i + V::kLanes, second);
  }
}

/// R rows × T tokens over all of k, weights read in place.
template <class V, WeightType Type, int R, int T>
void few_tokens(const GemmArgs& args, int64_t row, int64_t token) {
  constexpr int64_t kPair = 2 * V::kLanes;
  constexpr int64_t kBytes = kTypeBytes<Type>;
  typename V::Reg acc[R][T];
  const char* w[R];
  for (int r = 0; r < R; ++r) {
    w[r] = row_pointer(args, row + r, kBytes);
    for (int t = 0; t < T; ++t) acc[r][t] = V::zero();
  }
  const float* x = args.x + token * args.x_stride;
  const int64_t whole = args.k / kPair * kPair;
  for (int64_t i = 0; i < whole; i += kPair) {
    for (int r = 0; r < R; ++r) {
      typename V::Reg first;
      typename V::Reg second;
      // The rows that follow lie right behind: one block of BF16 ahead in every stream.
      if (Type != WeightType::kE4M3) {
        __builtin_prefetch(w[r] + (R * args.k + i) * kBytes);
      } else if (i % 64 == 0) {
        __builtin_prefetch(w[r] + 2 * R * args.k + i, 0, 2);
      }
      load_pair<V, Type>(w[r], i, first, second);
      for (int t = 0; t < T; ++t) {
        const float* xt = x + t * args.x_stride + i;
        acc[r][t] = V::fma(second, V::load(xt + V::kLanes), V::fma(first, V::load(xt), acc[r][t]));
      }
    }
  }
  if (whole < args.k) {
    for (int r = 0; r < R; ++r) {
      alignas(64) char padded[kPair * kBytes] = {};
      memcpy(padded, w[r] + whole * kBytes, static_cast<size_t>((args.k - whole) * kBytes));
      typename V::Reg first;
      typename V::Reg second;
      load_pair<V, Type>(padded, 0, first, second);
      for (int t = 0; t < T; ++t) {
        const float* xt = x + t * args.x_stride + whole;
        acc[r][t] = V::fma(second, V::load(xt + V::kLanes), V::fma(first, V::load(xt), acc[r][t]));
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t)
      args.out[(token + t) * args.out_stride + row + r] = V::sum(acc[r][t]);
  }
}

template <class V, WeightType Type, int R>
void few_tokens_row(const GemmArgs& args, int64_t row) {
  int64_t token = 0;
  for (; token + 4 <= args.tokens; token += 4) few_tokens<V, Type, R, 4>(args, row, token);
  for (; token + 2 <= args.tokens; token += 2) few_tokens<V, Type, R, 2>(args, row, token);
  for (; token < args.tokens; ++token) few_tokens<V, Type, R, 1>(args, row, token);
}

/// Weights [row, row + num_rows) × [k_begin, k_begin + count) as FP32, in arranged order.
template <class V, WeightType Type>
void convert_strip(const GemmArgs& args, int64_t row, int64_t num_rows, int64_t k_begin,
                   int64_t count, float* strip) {
  constexpr int64_t kPair = 2 * V::kLanes;
  constexpr int64_t kBytes = kTypeBytes<Type>;
  for (int64_t r = 0; r < num_rows; ++r) {
    const char* w = row_pointer(args, row + r, kBytes);
    float* out = strip + r * kStripStride;
    for (int64_t i = 0; i < count; i += kPair) {
      typename V::Reg first;
      typename V::Reg second;
      const int64_t left = args.k - (k_begin + i);
      if (left >= kPair) {
        load_pair<V, Type>(w, k_begin + i, first, second);
      } else {
        alignas(64) char padded[kPair * kBytes] = {};
        if (left > 0) {
          memcpy(padded, w + (k_begin + i) * kBytes, static_cast<size_t>(left * kBytes));
        }
        load_pair<V, Type>(padded, 0, first, second);
      }
      V::store(out + i, first);
      V::store(out + i + V::kLanes, second);
    }
  }
}

/// A strip's inputs: `count` channels of every token; `first` when none came before.
struct StripInput {
  const float* x;
  int64_t x_stride;
  int64_t count;
  bool first;
};

/// sums[r][t] += strip · x; sums are vectors, one per output.
template <class V, int R, int T>
void multiply_block(const float* strip, const StripInput& in, float* sums) {
  typename V::Reg acc[R][T];
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) {
      acc[r][t] = in.first ? V::zero() : V::load(sums + (t * kStripRows + r) * kMaxLanes);
    }
  }
  for (int64_t i = 0; i < in.count; i += V::kLanes) {
    typename V::Reg xt[T];
    for (int t = 0; t < T; ++t) xt[t] = V::load(in.x + t * in.x_stride + i);
    for (int r = 0; r < R; ++r) {
      const typename V::Reg w = V::load(strip + r * kStripStride + i);
      for (int t = 0; t < T; ++t) acc[r][t] = V::fma(w, xt[t], acc[r][t]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) V::store(sums + (t * kStripRows + r) * kMaxLanes, acc[r][t]);
  }
}

/// multiply_block<V, R, T> of `num` tokens, T = num.
template <class V, int R, int T = V::kTokens>
void multiply_group(int64_t num, const float* strip, const StripInput& in, float* sums) {
  if constexpr (T == 1) {
    multiply_block<V, R, 1>(strip, in, sums);
  } else if (num == T) {
    multiply_block<V, R, T>(strip, in, sums);
  } else {
    multiply_group<V, R, T - 1>(num, strip, in, sums);
  }
}

/// All rows of a strip by all tokens, in groups of about equal size, whose inputs stay in L1.
template <class V>
void multiply_strip(const float* strip, int64_t num_rows, const StripInput& in, int64_t num_tokens,
                    float* sums) {
  const int64_t groups = (num_tokens + V::kTokens - 1) / V::kTokens;
  const int64_t group = (num_tokens + groups - 1) / groups;
  for (int64_t token = 0; token < num_tokens; token += group) {
    const int64_t num = num_tokens - token < group ? num_tokens - token : group;
    const StripInput part{in.x + token * in.x_stride, in.x_stride, in.count, in.first};
    float* to = sums + token * kStripRows * kMaxLanes;
    int64_t r = 0;
    for (; r + kBlockRows <= num_rows; r += kBlockRows) {
      multiply_group<V, kBlockRows>(num, strip + r * kStripStride, part, to + r * kMaxLanes);
    }
    for (; r < num_rows; ++r) {
      multiply_group<V, 1>(num, strip + r * kStripStride, part, to + r * kMaxLanes);
    }
  }
}

/// A token's outputs from its vector sums, which lie side by side.
template <class V>
void add_up(const float* sums, int64_t num_rows, float* out) {
  int64_t r = 0;
  if constexpr (requires { V::sum_16; }) {
    for (; r + 16 <= num_rows; r += 16) {
      V::sum_16(sums + r * kMaxLanes, kMaxLanes, out + r);
    }
  }
  for (; r < num_rows; ++r) out[r] = V::sum(V::load(sums + r * kMaxLanes));
}

/// kStripRows rows at most, all tokens.
template <class V, WeightType Type>
void many_tokens(const GemmArgs& args, int64_t row, int64_t num_rows, float* scratch) {
  float* strip = scratch;
  float* sums = scratch + kStripRows * kStripStride;
  for (int64_t token = 0; token < args.tokens; token += kStripTokens) {
    const int64_t num_tokens =
        args.tokens - token < kStripTokens ? args.tokens - token : kStripTokens;
    for (int64_t k = 0; k < args.k_arranged; k += kStripChannels) {
      const int64_t left = args.k_arranged - k;
      const int64_t count = left < kStripChannels ? left : kStripChannels;
      convert_strip<V, Type>(args, row, num_rows, k, count, strip);
      const StripInput in{args.x + token * args.x_stride + k, args.x_stride, count, k == 0};
      multiply_strip<V>(strip, num_rows, in, num_tokens, sums);
    }
    for (int64_t t = 0; t < num_tokens; ++t) {
      add_up<V>(sums + t * kStripRows * kMaxLanes, num_rows,
                args.out + (token + t) * args.out_stride + row);
    }
  }
}

template <class V, WeightType Type>
void typed_rows(const GemmArgs& args, int64_t row_begin, int64_t row_end, float* scratch) {
  int64_t row = row_begin;
  if (args.tokens > few_tokens_limit(Type)) {
    for (; row < row_end; row += kStripRows) {
      many_tokens<V, Type>(args, row, row_end - row < kStripRows ? row_end - row : kStripRows,
                           scratch);
    }
    return;
  }
  for (; row + kBlockRows <= row_end; row += kBlockRows) {
    few_tokens_row<V, Type, kBlockRows>(args, row);
  }
  for (; row < row_end; ++row) few_tokens_row<V, Type, 1>(args, row);
}

template <class V>
void gemm_rows(const GemmArgs& args, int64_t row_begin, int64_t row_end, float* scratch) {
  switch (args.type) {
    case WeightType::kBF16:
      return typed_rows<V, WeightType::kBF16>(args, row_begin, row_end, scratch);
    case WeightType::kF16:
      return typed_rows<V, WeightType::kF16>(args, row_begin, row_end, scratch);
    case WeightType::kF32:
      return typed_rows<V, WeightType::kF32>(args, row_begin, row_end, scratch);
    case WeightType::kE4M3:
      return typed_rows<V, WeightType::kE4M3>(args, row_begin, row_end, scratch);
  }
}

}  // namespace
}  // namespace comet::formats::dense_cpu
