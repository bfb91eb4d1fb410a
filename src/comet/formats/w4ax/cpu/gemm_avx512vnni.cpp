// w4ax with AVX-512 VNNI. A line of tile128 (64 bytes: rows g and g + 8 × 64 channels, even words
// row g, odd words row g + 8) costs one load, three ALU operations and two vpdpbusd.
#include <immintrin.h>

#include "comet/formats/w4ax/cpu/gemm_body.h"

namespace comet::formats::w4ax::cpu {
namespace {

struct Avx512Vnni {
  static constexpr int64_t kPanelUnits = 2;
  static constexpr int64_t kPanelBlockTokens = 12;  // 2 × 12 sums and 2 weights in 32 registers
  static constexpr int64_t kPrefetchBytes = 8192;

  using Ints = __m512i;
  using Floats = __m512;

  static Ints load(const int32_t* p) { return _mm512_loadu_si512(p); }
  static Floats load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(int32_t* p, Ints v) { _mm512_storeu_si512(p, v); }
  static void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
  static Ints splat(int32_t x) { return _mm512_set1_epi32(x); }
  static Floats splat(float x) { return _mm512_set1_ps(x); }
  static Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static Ints sub(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
  static Ints mul(Ints a, Ints b) { return _mm512_mullo_epi32(a, b); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats to_float(Ints v) { return _mm512_cvtepi32_ps(v); }
  static Floats as_floats(Ints v) { return _mm512_castsi512_ps(v); }
  static Ints as_ints(Floats v) { return _mm512_castps_si512(v); }
  static Floats from_halves(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Ints from_bytes(const uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Ints from_bytes(const int8_t* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }

  static __m512i low_nibbles(__m512i line, __m512i mask) {
    // (line ^ mask) & 15
    return _mm512_ternarylogic_epi32(line, mask, _mm512_set1_epi8(15), 0x28);
  }
  static __m512i high_nibbles(__m512i line, __m512i mask) {
    return low_nibbles(_mm512_srli_epi32(line, 4), mask);
  }

  /// Words (row a, row a + 8) of two lines: every 128-bit lane holds a, a + 8, b, b + 8.
  static __m512i merge_lines(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
  }
  /// Sums the 128-bit lanes of two vectors pairwise.
  static __m512i merge_lanes(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
  }

  template <int T>
  static void block_sums(const uint8_t* unit, uint8_t mask_byte, const int8_t* const* x,
                         Ints* sums) {
    const __m512i mask = _mm512_set1_epi8(static_cast<char>(mask_byte));
    const __m512i order = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    __m512i pair[T][4];
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
      __m512i dot[2][T];
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        const uint8_t* line = unit + (2 * p + i) * 64;
        const __m512i half0 = _mm512_loadu_si512(line);
        const __m512i half1 = _mm512_loadu_si512(line + kTileBytes / 2);
        _mm_prefetch(reinterpret_cast<const char*>(line + kPrefetchBytes), _MM_HINT_T1);
        _mm_prefetch(reinterpret_cast<const char*>(line + kPrefetchBytes + kTileBytes / 2),
                     _MM_HINT_T1);
        const __m512i w[4] = {low_nibbles(half0, mask), high_nibbles(half0, mask),
                              low_nibbles(half1, mask), high_nibbles(half1, mask)};
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
          __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 4
          for (int j = 0; j < 4; ++j) {
            sum = _mm512_dpbusd_epi32(sum, w[j], _mm512_loadu_si512(x[t] + 64 * j));
          }
          dot[i][t] = sum;
        }
      }
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) pair[t][p] = merge_lines(dot[0][t], dot[1][t]);
    }
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      // Lane 4p + …: rows 2p, 2p + 8, 2p + 1, 2p + 9.
      const __m512i all =
          merge_lanes(merge_lanes(pair[t][0], pair[t][1]), merge_lanes(pair[t][2], pair[t][3]));
      sums[t] = _mm512_permutexvar_epi32(order, all);
    }
  }

  static void decode_unit(const uint8_t* unit, uint8_t mask_byte, uint8_t* panel) {
    const __m512i mask = _mm512_set1_epi8(static_cast<char>(mask_byte));
    const __m512i order = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    // An 8 × 8 transposition of 8-byte words: word w of line g holds channels of rows g and g + 8.
    __m512i pairs[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m512i a = _mm512_loadu_si512(unit + 128 * i);
      const __m512i b = _mm512_loadu_si512(unit + 128 * i + 64);
      pairs[i] = _mm512_unpacklo_epi64(a, b);      // words 0, 2, 4, 6 of lines 2i, 2i + 1
      pairs[4 + i] = _mm512_unpackhi_epi64(a, b);  // words 1, 3, 5, 7
    }
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
      const __m512i* p = pairs + 4 * odd;
      const __m512i low01 = _mm512_shuffle_i64x2(p[0], p[1], 0x44);
      const __m512i high01 = _mm512_shuffle_i64x2(p[0], p[1], 0xEE);
      const __m512i low23 = _mm512_shuffle_i64x2(p[2], p[3], 0x44);
      const __m512i high23 = _mm512_shuffle_i64x2(p[2], p[3], 0xEE);
      const __m512i words[4] = {
          _mm512_shuffle_i64x2(low01, low23, 0x88), _mm512_shuffle_i64x2(low01, low23, 0xDD),
          _mm512_shuffle_i64x2(high01, high23, 0x88), _mm512_shuffle_i64x2(high01, high23, 0xDD)};
#pragma GCC unroll 4
      for (int t = 0; t < 4; ++t) {
        const __m512i rows = _mm512_permutexvar_epi32(order, words[t]);
        uint8_t* out = panel + (4 * odd + t) * 64;
        _mm512_storeu_si512(out, low_nibbles(rows, mask));
        _mm512_storeu_si512(out + 512, high_nibbles(rows, mask));
      }
    }
  }

  template <int T>
  static void panel_sums_of(const uint8_t* panel, int64_t quads, const int8_t* x, int64_t x_stride,
                            int32_t (*sums)[kPanelBlockTokens][16]) {
    __m512i acc[2][T];
#pragma GCC unroll 12
    for (int t = 0; t < T; ++t) {
      acc[0][t] = _mm512_setzero_si512();
      acc[1][t] = _mm512_setzero_si512();
    }
    for (int64_t quad = 0; quad < quads; ++quad) {
      const __m512i w0 = _mm512_loadu_si512(panel + quad * 64);
      const __m512i w1 = _mm512_loadu_si512(panel + kUnitPanelBytes + quad * 64);
#pragma GCC unroll 12
      for (int t = 0; t < T; ++t) {
        int32_t word;
        memcpy(&word, x + t * x_stride + quad * 4, sizeof(word));
        const __m512i xq = _mm512_set1_epi32(word);
        acc[0][t] = _mm512_dpbusd_epi32(acc[0][t], w0, xq);
        acc[1][t] = _mm512_dpbusd_epi32(acc[1][t], w1, xq);
      }
    }
#pragma GCC unroll 12
    for (int t = 0; t < T; ++t) {
      _mm512_storeu_si512(sums[0][t], acc[0][t]);
      _mm512_storeu_si512(sums[1][t], acc[1][t]);
    }
  }

  static void panel_sums(const uint8_t* panel, int64_t quads, const int8_t* x, int64_t x_stride,
                         int64_t count, int32_t (*sums)[kPanelBlockTokens][16]) {
    using Sums = decltype(&panel_sums_of<1>);
    static constexpr Sums kSums[] = {panel_sums_of<1>,  panel_sums_of<2>,  panel_sums_of<3>,
                                     panel_sums_of<4>,  panel_sums_of<5>,  panel_sums_of<6>,
                                     panel_sums_of<7>,  panel_sums_of<8>,  panel_sums_of<9>,
                                     panel_sums_of<10>, panel_sums_of<11>, panel_sums_of<12>};
    kSums[count - 1](panel, quads, x, x_stride, sums);
  }
};

}  // namespace

const GemmIsa kAvx512VnniIsa{expand_codes, few_tokens<Avx512Vnni>, many_tokens<Avx512Vnni>};

}  // namespace comet::formats::w4ax::cpu
