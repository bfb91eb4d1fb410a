// w4ax with AVX2 (also for AVX-512 without VNNI): u·q by maddubs, at most 8 results in an int16
// lane (8 · 2 · 15 · 127 = 30480), then widened to int32.
#include <immintrin.h>

#include "comet/formats/w4ax/cpu/gemm_body.h"

namespace comet::formats::w4ax::cpu {
namespace {

struct Avx2 {
  static constexpr int64_t kPanelUnits = 1;
  static constexpr int64_t kPanelBlockTokens = 4;  // 2 vectors of rows × 4 tokens of int16 sums
  static constexpr int64_t kPrefetchBytes = 8192;

  struct Ints {
    __m256i low, high;
  };
  struct Floats {
    __m256 low, high;
  };

  static Ints load(const int32_t* p) { return {load256(p), load256(p + 8)}; }
  static Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static void store(int32_t* p, Ints v) {
    store256(p, v.low);
    store256(p + 8, v.high);
  }
  static void store(float* p, Floats v) {
    _mm256_storeu_ps(p, v.low);
    _mm256_storeu_ps(p + 8, v.high);
  }
  static Ints splat(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
  static Floats splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static Ints add(Ints a, Ints b) {
    return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
  }
  static Ints sub(Ints a, Ints b) {
    return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)};
  }
  static Ints mul(Ints a, Ints b) {
    return {_mm256_mullo_epi32(a.low, b.low), _mm256_mullo_epi32(a.high, b.high)};
  }
  static Floats add(Floats a, Floats b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  static Floats mul(Floats a, Floats b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  static Floats fma(Floats a, Floats b, Floats c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static Floats to_float(Ints v) { return {_mm256_cvtepi32_ps(v.low), _mm256_cvtepi32_ps(v.high)}; }
  static Floats as_floats(Ints v) {
    return {_mm256_castsi256_ps(v.low), _mm256_castsi256_ps(v.high)};
  }
  static Ints as_ints(Floats v) {
    return {_mm256_castps_si256(v.low), _mm256_castps_si256(v.high)};
  }
  static Floats from_halves(const uint16_t* p) {
    const auto* halves = reinterpret_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
  }
  static Ints from_bytes(const uint8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
  }
  static Ints from_bytes(const int8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))};
  }

  static __m256i load256(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  static void store256(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

  static __m256i low_nibbles(__m256i line, __m256i mask) {
    return _mm256_and_si256(_mm256_xor_si256(line, mask), _mm256_set1_epi8(15));
  }
  static __m256i high_nibbles(__m256i line, __m256i mask) {
    return low_nibbles(_mm256_srli_epi16(line, 4), mask);
  }
  static __m256i widen(__m256i sums16) { return _mm256_madd_epi16(sums16, _mm256_set1_epi16(1)); }

  template <int T>
  static void block_sums(const uint8_t* unit, uint8_t mask_byte, const int8_t* const* x,
                         Ints* sums) {
    const __m256i mask = _mm256_set1_epi8(static_cast<char>(mask_byte));
    __m256i pair[T][4];
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
      __m256i dot[2][T];
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        const uint8_t* line = unit + (2 * p + i) * 64;
        _mm_prefetch(reinterpret_cast<const char*>(line + kPrefetchBytes), _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(line + kPrefetchBytes + kTileBytes / 2),
                     _MM_HINT_T0);
        line_dots<T>(line, mask, x, dot[i]);
      }
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        pair[t][p] = _mm256_add_epi32(_mm256_unpacklo_epi64(dot[0][t], dot[1][t]),
                                      _mm256_unpackhi_epi64(dot[0][t], dot[1][t]));
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      // Lanes: rows 4j, 4j + 8, 4j + 1, 4j + 9, 4j + 2, …
      const __m256i low = merge_lanes(pair[t][0], pair[t][1]);
      const __m256i high = merge_lanes(pair[t][2], pair[t][3]);
      const __m256 a = _mm256_castsi256_ps(low);
      const __m256 b = _mm256_castsi256_ps(high);
      const __m256i even = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88));
      const __m256i odd = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xDD));
      sums[t] = {_mm256_permute4x64_epi64(even, 0xD8), _mm256_permute4x64_epi64(odd, 0xD8)};
    }
  }

  /// Rows g (even lanes) and g + 8 (odd lanes) over 128 channels: 8 maddubs results in each lane.
  template <int T>
  static void line_dots(const uint8_t* line, __m256i mask, const int8_t* const* x, __m256i* dot) {
    __m256i sum[T];
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) {
      const int half = part / 2;
      const int side = part % 2;  // which 32 bytes of the line
      const __m256i w = load256(line + half * (kTileBytes / 2) + 32 * side);
      const __m256i low = low_nibbles(w, mask);
      const __m256i high = high_nibbles(w, mask);
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const int8_t* xt = x[t] + half * 128 + 32 * side;
        const __m256i both = _mm256_add_epi16(_mm256_maddubs_epi16(low, load256(xt)),
                                              _mm256_maddubs_epi16(high, load256(xt + 64)));
        sum[t] = part == 0 ? both : _mm256_add_epi16(sum[t], both);
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) dot[t] = widen(sum[t]);
  }

  static __m256i merge_lanes(__m256i a, __m256i b) {
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                            _mm256_permute2x128_si256(a, b, 0x31));
  }

  static void decode_unit(const uint8_t* unit, uint8_t mask_byte, uint8_t* panel) {
    // Words of 8 bytes: word w of line g holds 4 channels of row g, then of row g + 8.
    alignas(32) uint64_t words[8][8];
    for (int g = 0; g < 8; ++g) {
      for (int w = 0; w < 8; ++w) memcpy(&words[w][g], unit + 64 * g + 8 * w, 8);
    }
    const __m256i mask = _mm256_set1_epi8(static_cast<char>(mask_byte));
    for (int w = 0; w < 8; ++w) {
      const __m256 a = _mm256_castsi256_ps(load256(words[w]));  // rows 0, 8, 1, 9 | 2, 10, 3, 11
      const __m256 b = _mm256_castsi256_ps(load256(words[w] + 4));  // rows 4, 12, …
      const __m256i first =
          _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88)), 0xD8);
      const __m256i second =
          _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xDD)), 0xD8);
      uint8_t* out = panel + (w % 2 * 4 + w / 2) * 64;  // word 2t + (r >> 1)
      store256(out, low_nibbles(first, mask));
      store256(out + 32, low_nibbles(second, mask));
      store256(out + 512, high_nibbles(first, mask));
      store256(out + 544, high_nibbles(second, mask));
    }
  }

  template <int T>
  static void panel_sums_of(const uint8_t* panel, int64_t quads, const int8_t* x, int64_t x_stride,
                            int32_t (*sums)[16]) {
    for (int t = 0; t < T; ++t) memset(sums[t], 0, sizeof(sums[t]));
    // 8 quads of channels fill an int16 lane; a block has 32.
    for (int64_t begin = 0; begin < quads; begin += 8) {
      __m256i acc[2][T];
#pragma GCC unroll 8
      for (int quad = 0; quad < 8; ++quad) {
        const __m256i w0 = load256(panel + (begin + quad) * 64);
        const __m256i w1 = load256(panel + (begin + quad) * 64 + 32);
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
          int32_t word;
          memcpy(&word, x + t * x_stride + (begin + quad) * 4, sizeof(word));
          const __m256i xq = _mm256_set1_epi32(word);
          const __m256i p0 = _mm256_maddubs_epi16(w0, xq);
          const __m256i p1 = _mm256_maddubs_epi16(w1, xq);
          acc[0][t] = quad == 0 ? p0 : _mm256_add_epi16(acc[0][t], p0);
          acc[1][t] = quad == 0 ? p1 : _mm256_add_epi16(acc[1][t], p1);
        }
      }
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        store256(sums[t], _mm256_add_epi32(load256(sums[t]), widen(acc[0][t])));
        store256(sums[t] + 8, _mm256_add_epi32(load256(sums[t] + 8), widen(acc[1][t])));
      }
    }
  }

  static void panel_sums(const uint8_t* panel, int64_t quads, const int8_t* x, int64_t x_stride,
                         int64_t count, int32_t (*sums)[kPanelBlockTokens][16]) {
    switch (count) {
      case 4:
        return panel_sums_of<4>(panel, quads, x, x_stride, sums[0]);
      case 3:
        return panel_sums_of<3>(panel, quads, x, x_stride, sums[0]);
      case 2:
        return panel_sums_of<2>(panel, quads, x, x_stride, sums[0]);
      default:
        return panel_sums_of<1>(panel, quads, x, x_stride, sums[0]);
    }
  }
};

}  // namespace

const GemmIsa kAvx2Isa{expand_codes, few_tokens<Avx2>, many_tokens<Avx2>};

}  // namespace comet::formats::w4ax::cpu
