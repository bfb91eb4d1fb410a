// F32 as the sixteen lanes of an AVX-512 register. Included by simd.h only.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace comet::simd {
namespace {

struct F32 {
  __m512 v;
};
constexpr int kLanes = 16;

inline F32 splat(float x) { return {_mm512_set1_ps(x)}; }
inline F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, F32 a) { _mm512_storeu_ps(p, a.v); }
/// Ones for the first n lanes, n ≤ 16.
inline __mmask16 lane_mask(int64_t n) { return static_cast<__mmask16>((1U << n) - 1U); }
inline F32 load_partial(const float* p, int64_t n) {
  return {_mm512_maskz_loadu_ps(lane_mask(n), p)};
}
inline void store_partial(float* p, F32 a, int64_t n) {
  _mm512_mask_storeu_ps(p, lane_mask(n), a.v);
}
inline F32 add(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32 sub(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32 mul(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32 div(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
/// a where a > b, else b: b when either is NaN.
inline F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F32 select_less(F32 a, F32 b, F32 yes, F32 no) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
}
/// 2ⁿ for whole n in [−126, 127].
inline F32 pow2(F32 n) {
  const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))};
}
inline float reduce_add(F32 a) { return _mm512_reduce_add_ps(a.v); }
inline float reduce_max(F32 a) { return _mm512_reduce_max_ps(a.v); }
inline float reduce_min(F32 a) { return _mm512_reduce_min_ps(a.v); }

inline F32 load_bf16(const uint16_t* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
inline F32 load_f16(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
/// Round to nearest even; NaN becomes a quiet NaN.
inline void store_bf16(uint16_t* p, F32 a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i upper = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(
      _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF))), 16);
  const __m512i quiet = _mm512_or_si512(upper, _mm512_set1_epi32(0x40));
  const __mmask16 is_nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, is_nan, quiet)));
}
/// The low and high nibbles of kLanes bytes.
inline void load_nibbles(const uint8_t* p, F32& low, F32& high) {
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  low.v = _mm512_cvtepi32_ps(_mm512_and_si512(bytes, _mm512_set1_epi32(15)));
  high.v = _mm512_cvtepi32_ps(_mm512_srli_epi32(bytes, 4));
}
/// kLanes whole numbers in [0, 255] as bytes.
inline void store_u8(uint8_t* p, F32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v)));
}
inline F32 load_s8(const int8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
}
/// kLanes whole numbers in [−128, 127] as bytes.
inline void store_s8(int8_t* p, F32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v)));
}

/// Lane i gets lane i ^ kStride.
template <int kStride>
inline F32 swap_lanes(F32 a) {
  if constexpr (kStride == 1) return {_mm512_permute_ps(a.v, 0xB1)};
  if constexpr (kStride == 2) return {_mm512_permute_ps(a.v, 0x4E)};
  if constexpr (kStride == 4) return {_mm512_shuffle_f32x4(a.v, a.v, 0xB1)};
  if constexpr (kStride == 8) return {_mm512_shuffle_f32x4(a.v, a.v, 0x4E)};
}
/// Lanes i with i & kStride change sign.
template <int kStride>
inline F32 negate_lanes(F32 a) {
  constexpr unsigned kMask = kStride == 1   ? 0xAAAAU
                             : kStride == 2 ? 0xCCCCU
                             : kStride == 4 ? 0xF0F0U
                                            : 0xFF00U;
  const __m512i bits = _mm512_castps_si512(a.v);
  return {_mm512_castsi512_ps(_mm512_mask_xor_epi32(bits, static_cast<__mmask16>(kMask), bits,
                                                    _mm512_set1_epi32(INT32_MIN)))};
}

}  // namespace
}  // namespace comet::simd
