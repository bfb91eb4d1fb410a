// Body of the w8a8-int CPU kernels, included by one file per instruction set (hence the unnamed
// namespace): y[m, n] = s_w[n] · (s_x[m] · Σ q_w·q_x), exact int32 in any order. Both operands lie
// along k, so an output is one vector of partial sums, added up at the end. Few tokens: 4 rows × T
// tokens straight from memory. Many tokens: a strip of 32 rows is widened once for 96 tokens.
//
// Isa gives: Reg of int32 sums; Code (an input in memory) and Stored (a weight in a strip), of
// which a step takes kStep; kTokens (T); zero, load_codes, load_weights (in place), load_strip,
// store_strip, mul_add(sum, w, x), totals(four sums, out): Σ of their lanes modulo 2³²;
// exact(total, Σ x): the sum that is meant.
#pragma once

#include <stdint.h>
#include <string.h>

#include "comet/formats/w8a8_int/cpu/gemm_args.h"

namespace comet::formats::w8a8_int::cpu {
namespace {

constexpr int kBlockRows = 4;
constexpr int64_t kLine = 64;  // codes of a cache line, some steps

template <class Isa>
inline const typename Isa::Code* codes_of(const GemmArgs& args, int64_t token) {
  if constexpr (sizeof(typename Isa::Code) == 1) return args.codes + token * args.k_padded;
  if constexpr (sizeof(typename Isa::Code) == 2) return args.wide + token * args.k_padded;
}

/// sum[r][t] += row r · token t over channels [0, count), whole steps; load(r, i) gives weights.
template <class Isa, int R, int T, class Load>
inline void multiply(typename Isa::Reg (&sum)[R][T], const typename Isa::Code* x, int64_t x_stride,
                     int64_t count, const Load& load) {
  for (int64_t i = 0; i < count; i += Isa::kStep) {
    decltype(load(0, i)) w[R];
    for (int r = 0; r < R; ++r) w[r] = load(r, i);
    for (int t = 0; t < T; ++t) {
      const auto codes = Isa::load_codes(x + t * x_stride + i);
      for (int r = 0; r < R; ++r) sum[r][t] = Isa::mul_add(sum[r][t], w[r], codes);
    }
  }
}

template <class Isa, int R, int T>
inline void clear(typename Isa::Reg (&sum)[R][T]) {
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) sum[r][t] = Isa::zero();
  }
}

/// Totals of the R rows of token t.
template <class Isa, int R, int T>
inline void total_rows(const typename Isa::Reg (&sum)[R][T], int t, uint32_t* totals) {
  if constexpr (R == kBlockRows) {
    Isa::totals(sum[0][t], sum[1][t], sum[2][t], sum[3][t], totals);
  } else {
    Isa::totals(sum[0][t], Isa::zero(), Isa::zero(), Isa::zero(), totals);
  }
}

/// Outputs of `count` rows from `row` on.
template <class Isa>
inline void finish(const GemmArgs& args, int64_t token, int64_t row, int64_t count,
                   const uint32_t* totals) {
  const float x_scale = args.x_scale[2 * token + 1];
  const int32_t x_sum = args.x_sum[token];
  const float* w_scale = args.scale + row;
  float* out = args.out + token * args.out_stride + row;
  for (int64_t r = 0; r < count; ++r) {
    out[r] = w_scale[r] * (x_scale * static_cast<float>(Isa::exact(totals[r], x_sum)));
  }
}

template <class Isa, int R, int T>
void few_tokens_block(const GemmArgs& args, int64_t row, int64_t token) {
  const int8_t* w = args.weight + row * args.k;
  const typename Isa::Code* x = codes_of<Isa>(args, token);
  typename Isa::Reg sum[R][T];
  clear<Isa>(sum);
  const int64_t whole = args.k / kLine * kLine;
  for (int64_t i = 0; i < whole; i += kLine) {
    // The rows that follow lie right behind: two blocks ahead in every stream, into L2.
    for (int r = 0; r < R; ++r) __builtin_prefetch(w + (2 * R + r) * args.k + i, 0, 2);
    multiply<Isa>(sum, x + i, args.k_padded, kLine,
                  [&](int r, int64_t j) { return Isa::load_weights(w + r * args.k + i + j); });
  }
  if (whole < args.k) {
    int8_t padded[R][kLine] = {};
    for (int r = 0; r < R; ++r) {
      memcpy(padded[r], w + r * args.k + whole, static_cast<size_t>(args.k - whole));
    }
    multiply<Isa>(sum, x + whole, args.k_padded, kLine,
                  [&](int r, int64_t j) { return Isa::load_weights(padded[r] + j); });
  }
  for (int t = 0; t < T; ++t) {
    uint32_t totals[kBlockRows];
    total_rows<Isa>(sum, t, totals);
    finish<Isa>(args, token + t, row, R, totals);
  }
}

/// body.template run<T>(token) for all tokens, in groups of about equal size, at most kTokens.
template <class Isa, class Body, int T = Isa::kTokens>
inline void for_group(int64_t num, int64_t token, const Body& body) {
  if constexpr (T == 1) {
    body.template run<1>(token);
  } else if (num == T) {
    body.template run<T>(token);
  } else {
    for_group<Isa, Body, T - 1>(num, token, body);
  }
}

template <class Isa, class Body>
inline void for_token_groups(int64_t tokens, const Body& body) {
  const int64_t groups = (tokens + Isa::kTokens - 1) / Isa::kTokens;
  const int64_t group = (tokens + groups - 1) / groups;
  for (int64_t token = 0; token < tokens; token += group) {
    for_group<Isa>(tokens - token < group ? tokens - token : group, token, body);
  }
}

template <class Isa, int R>
struct FewTokens {
  const GemmArgs& args;
  int64_t row;

  template <int T>
  void run(int64_t token) const {
    few_tokens_block<Isa, R, T>(args, row, token);
  }
};

/// One strip times some tokens, into totals [tokens][kStripRows].
template <class Isa>
struct StripTokens {
  const GemmArgs& args;
  const typename Isa::Stored* strip;  // [kStripRows, stride]
  int64_t stride;
  int64_t channel;  // the strip's first
  int64_t count;    // a multiple of kStep
  int64_t first_token;
  uint32_t* totals;

  template <int T>
  void run(int64_t token) const {
    const typename Isa::Code* x = codes_of<Isa>(args, first_token + token) + channel;
    for (int64_t row = 0; row < kStripRows; row += kBlockRows) {
      const typename Isa::Stored* w = strip + row * stride;
      typename Isa::Reg sum[kBlockRows][T];
      clear<Isa>(sum);
      multiply<Isa>(sum, x, args.k_padded, count,
                    [&](int r, int64_t i) { return Isa::load_strip(w + r * stride + i); });
      for (int t = 0; t < T; ++t) {
        uint32_t some[kBlockRows];
        total_rows<Isa>(sum, t, some);
        uint32_t* out = totals + (token + t) * kStripRows + row;
        for (int r = 0; r < kBlockRows; ++r) out[r] += some[r];
      }
    }
  }
};

/// Rows [row, row + num_rows) × channels [channel, channel + count) as a kernel multiplies them;
/// zeros behind k and behind the last row.
template <class Isa>
void fill_strip(const GemmArgs& args, int64_t row, int64_t num_rows, int64_t channel, int64_t count,
                int64_t stride, typename Isa::Stored* strip) {
  for (int64_t r = 0; r < kStripRows; ++r) {
    const int8_t* w = args.weight + (row + r) * args.k + channel;
    const int64_t present = r < num_rows ? args.k - channel : 0;
    for (int64_t i = 0; i < count; i += Isa::kStep) {
      int8_t padded[Isa::kStep] = {};
      const bool whole = i + Isa::kStep <= present;
      if (!whole && i < present) memcpy(padded, w + i, static_cast<size_t>(present - i));
      Isa::store_strip(strip + r * stride + i, Isa::load_weights(whole ? w + i : padded));
    }
  }
}

template <class Isa>
void many_tokens(const GemmArgs& args, int64_t row, int64_t num_rows, const Scratch& scratch) {
  using Stored = typename Isa::Stored;
  // Rows of a power of two would share a few cache sets.
  constexpr int64_t kPadding = 64;
  constexpr int64_t kStride = kStripBytes / (kStripRows * sizeof(Stored));
  constexpr int64_t kChannels = kStride - kPadding;
  static_assert(kChannels % Isa::kStep == 0);
  auto* strip = reinterpret_cast<Stored*>(scratch.strip);
  const int64_t padded = (args.k + Isa::kStep - 1) / Isa::kStep * Isa::kStep;
  for (int64_t token = 0; token < args.tokens; token += kStripTokens) {
    const int64_t left = args.tokens - token;
    const int64_t num_tokens = left < kStripTokens ? left : kStripTokens;
    memset(scratch.totals, 0, sizeof(uint32_t) * static_cast<size_t>(num_tokens * kStripRows));
    for (int64_t channel = 0; channel < padded; channel += kChannels) {
      const int64_t count = padded - channel < kChannels ? padded - channel : kChannels;
      fill_strip<Isa>(args, row, num_rows, channel, count, kStride, strip);
      for_token_groups<Isa>(num_tokens, StripTokens<Isa>{args, strip, kStride, channel, count,
                                                         token, scratch.totals});
    }
    for (int64_t t = 0; t < num_tokens; ++t) {
      finish<Isa>(args, token + t, row, num_rows, scratch.totals + t * kStripRows);
    }
  }
}

template <class Isa>
void gemm_rows(const GemmArgs& args, int64_t row_begin, int64_t row_end, const Scratch& scratch) {
  int64_t row = row_begin;
  if (args.tokens > kFewTokens) {
    for (; row < row_end; row += kStripRows) {
      many_tokens<Isa>(args, row, row_end - row < kStripRows ? row_end - row : kStripRows, scratch);
    }
    return;
  }
  for (; row + kBlockRows <= row_end; row += kBlockRows) {
    for_token_groups<Isa>(args.tokens, FewTokens<Isa, kBlockRows>{args, row});
  }
  for (; row < row_end; ++row) for_token_groups<Isa>(args.tokens, FewTokens<Isa, 1>{args, row});
}

}  // namespace
}  // namespace comet::formats::w8a8_int::cpu
