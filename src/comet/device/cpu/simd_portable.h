// F32 as four lanes of the compiler's vector extension: any machine. fma here rounds twice.
// Included by simd.h only.
#pragma once

#include <stdint.h>
#include <string.h>

#include "comet/device/cpu/f16_scalar.h"

namespace comet::simd {
namespace {

using F32Lanes __attribute__((vector_size(16))) = float;
using I32Lanes __attribute__((vector_size(16))) = int32_t;

struct F32 {
  F32Lanes v;
};
constexpr int kLanes = 4;

inline F32 splat(float x) { return {F32Lanes{x, x, x, x}}; }
inline F32 load(const float* p) {
  F32 r;
  memcpy(&r.v, p, sizeof(r.v));
  return r;
}
inline void store(float* p, F32 a) { memcpy(p, &a.v, sizeof(a.v)); }
inline F32 load_partial(const float* p, int64_t n) {
  F32 r = splat(0.0F);
  memcpy(&r.v, p, static_cast<size_t>(n) * sizeof(float));
  return r;
}
inline void store_partial(float* p, F32 a, int64_t n) {
  memcpy(p, &a.v, static_cast<size_t>(n) * sizeof(float));
}
inline F32 add(F32 a, F32 b) { return {a.v + b.v}; }
inline F32 sub(F32 a, F32 b) { return {a.v - b.v}; }
inline F32 mul(F32 a, F32 b) { return {a.v * b.v}; }
inline F32 div(F32 a, F32 b) { return {a.v / b.v}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {a.v * b.v + c.v}; }
/// a where a > b, else b: b when either is NaN.
inline F32 max(F32 a, F32 b) { return {a.v > b.v ? a.v : b.v}; }
inline F32 min(F32 a, F32 b) { return {a.v < b.v ? a.v : b.v}; }
inline F32 select_less(F32 a, F32 b, F32 yes, F32 no) { return {a.v < b.v ? yes.v : no.v}; }
/// 2ⁿ for whole n in [−126, 127].
inline F32 pow2(F32 n) {
  const I32Lanes bits = (__builtin_convertvector(n.v, I32Lanes) + 127) << 23;
  F32 r;
  memcpy(&r.v, &bits, sizeof(bits));
  return r;
}
inline float reduce_add(F32 a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
inline float reduce_max(F32 a) {
  const F32 b = max(a, {F32Lanes{a.v[2], a.v[3], a.v[0], a.v[1]}});
  return b.v[0] > b.v[1] ? b.v[0] : b.v[1];
}
inline float reduce_min(F32 a) {
  const F32 b = min(a, {F32Lanes{a.v[2], a.v[3], a.v[0], a.v[1]}});
  return b.v[0] < b.v[1] ? b.v[0] : b.v[1];
}

inline F32 load_bf16(const uint16_t* p) {
  I32Lanes bits;
  for (int i = 0; i < kLanes; ++i)
    bits[i] = static_cast<int32_t>(static_cast<uint32_t>(p[i]) << 16);
  F32 r;
  memcpy(&r.v, &bits, sizeof(bits));
  return r;
}
inline F32 load_f16(const uint16_t* p) {
  F32 r;
  for (int i = 0; i < kLanes; ++i) r.v[i] = f16_to_f32(p[i]);
  return r;
}
/// Round to nearest even; NaN becomes a quiet NaN.
inline void store_bf16(uint16_t* p, F32 a) {
  for (int i = 0; i < kLanes; ++i) {
    uint32_t bits;
    const float x = a.v[i];
    memcpy(&bits, &x, sizeof(bits));
    const uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
    p[i] = static_cast<uint16_t>(x == x ? rounded : (bits >> 16) | 0x40U);
  }
}
/// The low and high nibbles of kLanes bytes.
inline void load_nibbles(const uint8_t* p, F32& low, F32& high) {
  for (int i = 0; i < kLanes; ++i) {
    low.v[i] = static_cast<float>(p[i] & 15);
    high.v[i] = static_cast<float>(p[i] >> 4);
  }
}
/// kLanes whole numbers in [0, 255] as bytes.
inline void store_u8(uint8_t* p, F32 a) {
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<uint8_t>(static_cast<int32_t>(a.v[i]));
}
inline F32 load_s8(const int8_t* p) {
  F32 r;
  for (int i = 0; i < kLanes; ++i) r.v[i] = static_cast<float>(p[i]);
  return r;
}
/// kLanes whole numbers in [−128, 127] as bytes.
inline void store_s8(int8_t* p, F32 a) {
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int8_t>(static_cast<int32_t>(a.v[i]));
}

/// Lane i gets lane i ^ kStride.
template <int kStride>
inline F32 swap_lanes(F32 a) {
  return {F32Lanes{a.v[0 ^ kStride], a.v[1 ^ kStride], a.v[2 ^ kStride], a.v[3 ^ kStride]}};
}
/// Lanes i with i & kStride change sign.
template <int kStride>
inline F32 negate_lanes(F32 a) {
  const auto sign = [](int i) { return (i & kStride) != 0 ? -1.0F : 1.0F; };
  return {a.v * F32Lanes{sign(0), sign(1), sign(2), sign(3)}};
}

}  // namespace
}  // namespace comet::simd
