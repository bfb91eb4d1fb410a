// F32 as the eight lanes of an AVX2 register. Included by simd.h only.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace comet::simd {
namespace {

struct F32 {
  __m256 v;
};
constexpr int kLanes = 8;

inline F32 splat(float x) { return {_mm256_set1_ps(x)}; }
inline F32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline void store(float* p, F32 a) { _mm256_storeu_ps(p, a.v); }
/// All ones in the first n lanes.
inline __m256i lane_mask(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline F32 load_partial(const float* p, int64_t n) { return {_mm256_maskload_ps(p, lane_mask(n))}; }
inline void store_partial(float* p, F32 a, int64_t n) { _mm256_maskstore_ps(p, lane_mask(n), a.v); }
inline F32 add(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
inline F32 sub(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline F32 mul(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline F32 div(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
/// a where a > b, else b: b when either is NaN.
inline F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
inline F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
inline F32 select_less(F32 a, F32 b, F32 yes, F32 no) {
  return {_mm256_blendv_ps(no.v, yes.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))};
}
/// 2ⁿ for whole n in [−126, 127].
inline F32 pow2(F32 n) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(biased, 23))};
}
inline float reduce_add(F32 a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
inline float reduce_max(F32 a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
inline float reduce_min(F32 a) {
  __m128 x = _mm_min_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_min_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_min_ss(x, _mm_movehdup_ps(x)));
}

inline F32 load_bf16(const uint16_t* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
}
inline F32 load_f16(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
/// Round to nearest even; NaN becomes a quiet NaN.
inline void store_bf16(uint16_t* p, F32 a) {
  const __m256i bits = _mm256_castps_si256(a.v);
  const __m256i upper = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(
      _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF))), 16);
  const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
  const __m256i r = _mm256_blendv_epi8(rounded, quiet, is_nan);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1)));
}
/// The low and high nibbles of kLanes bytes.
inline void load_nibbles(const uint8_t* p, F32& low, F32& high) {
  const __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  low.v = _mm256_cvtepi32_ps(_mm256_and_si256(bytes, _mm256_set1_epi32(15)));
  high.v = _mm256_cvtepi32_ps(_mm256_srli_epi32(bytes, 4));
}
/// kLanes whole numbers in [0, 255] as bytes.
inline void store_u8(uint8_t* p, F32 a) {
  const __m256i x = _mm256_cvtps_epi32(a.v);
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}
inline F32 load_s8(const int8_t* p) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))};
}
/// kLanes whole numbers in [−128, 127] as bytes.
inline void store_s8(int8_t* p, F32 a) {
  const __m256i x = _mm256_cvtps_epi32(a.v);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}

/// Lane i gets lane i ^ kStride.
template <int kStride>
inline F32 swap_lanes(F32 a) {
  if constexpr (kStride == 1) return {_mm256_permute_ps(a.v, 0xB1)};
  if constexpr (kStride == 2) return {_mm256_permute_ps(a.v, 0x4E)};
  if constexpr (kStride == 4) return {_mm256_permute2f128_ps(a.v, a.v, 1)};
}
/// Lanes i with i & kStride change sign.
template <int kStride>
inline F32 negate_lanes(F32 a) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  constexpr int kShift = kStride == 1 ? 31 : kStride == 2 ? 30 : 29;
  const __m256i sign =
      _mm256_slli_epi32(_mm256_and_si256(lanes, _mm256_set1_epi32(kStride)), kShift);
  return {_mm256_xor_ps(a.v, _mm256_castsi256_ps(sign))};
}

}  // namespace
}  // namespace comet::simd
