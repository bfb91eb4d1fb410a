// Device functions of the producers: source rows → FP32 values → codes (docs/formats.md §1, §2.4).
// Included by producer.cu, producer_cluster.cu and producer_ring.cu; the kernels there say who does
// what.
//
// A thread takes chunks of 8 neighbouring positions, so that 16 lanes hold a
// block of 128 and a warp two of them.
#pragma once

#include <cuda_bf16.h>

#include <climits>
#include <cstdint>

#include "comet/device/cuda/prims/access.cuh"
#include "comet/formats/cuda/producer.h"

namespace comet::formats::cuda {

constexpr int kChunk = 8;
constexpr int kBlockLanes = 16;  // × kChunk = 128 channels
constexpr int kMaxThreads = 1024;
constexpr uint32_t kAllLanes = 0xFFFFFFFFU;
constexpr uint32_t kInfinityBits = 0x7F800000U;
constexpr float kSmallest = 0x1p-100F;
constexpr float kRound = 0x1.8p23F;  // the low byte of v + kRound is rne(v) for |v| ≤ 127

struct Int8Sink : CodeSink {
  static constexpr bool kIsE4m3 = false;
  static constexpr float kLimit = 127.0F;
};
struct E4m3Sink : CodeSink {
  static constexpr bool kIsE4m3 = true;
  static constexpr float kLimit = 448.0F;
};

/// What the host decided from shapes and addresses.
struct RowPlan {
  int num_chunks = 0;        // of the sink's row
  bool is_aligned = false;   // chunks of source and sink are whole and 16-byte (codes: 8) aligned
  bool in_shared = false;    // the row's FP32 values lie in shared memory, else they are made again
  int staged_floats = -1;    // where stored-order values lie in shared memory; −1: nowhere
  int constant_floats = -1;  // where a norm's weights and the permutation lie there; −1: nowhere
};

struct BlockScratch {
  float sums[32];
  uint32_t tops[2][32];
};

/// Bits of the largest |v| of each segment of a row; of codes with one scale the first is the
/// row's.
using Tops = uint32_t[2];

/// The largest of each of two values over the CTA, in two parts with a barrier between them.
__device__ __forceinline__ void write_tops(const Tops& tops, BlockScratch& scratch) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t top = __reduce_max_sync(kAllLanes, tops[i]);
    if (threadIdx.x % 32 == 0) scratch.tops[i][threadIdx.x / 32] = top;
  }
}

__device__ __forceinline__ void read_tops(Tops& tops, const BlockScratch& scratch) {
  const unsigned lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t top = lane < blockDim.x / 32 ? scratch.tops[i][lane] : 0;
    tops[i] = __reduce_max_sync(kAllLanes, top);
  }
}

__device__ __forceinline__ void block_max(Tops& tops, BlockScratch& scratch) {
  write_tops(tops, scratch);
  __syncthreads();
  read_tops(tops, scratch);
}

// ---- Chunks of global memory

__device__ __forceinline__ float load_float(const FloatRows& rows, int64_t at) {
  if (rows.type == FloatType::kF32) return static_cast<const float*>(rows.data)[at];
  return __bfloat162float(static_cast<const __nv_bfloat16*>(rows.data)[at]);
}

__device__ __forceinline__ void load_floats(const float* from, float (&v)[kChunk]) {
  const float4 low = reinterpret_cast<const float4*>(from)[0];
  const float4 high = reinterpret_cast<const float4*>(from)[1];
  v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
  v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
}

__device__ __forceinline__ void store_floats(float* to, const float (&v)[kChunk]) {
  reinterpret_cast<float4*>(to)[0] = make_float4(v[0], v[1], v[2], v[3]);
  reinterpret_cast<float4*>(to)[1] = make_float4(v[4], v[5], v[6], v[7]);
}

/// Channels begin … begin + 7 of a row; 0 behind channel k.
__device__ __forceinline__ void load_chunk(const FloatRows& rows, int64_t row_idx, int begin, int k,
                                           bool is_aligned, float (&v)[kChunk]) {
  const int64_t at = row_idx * rows.stride + begin;
  if (!is_aligned) {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) v[i] = begin + i < k ? load_float(rows, at + i) : 0.0F;
  } else if (begin >= k) {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) v[i] = 0.0F;
  } else if (rows.type == FloatType::kF32) {
    load_floats(static_cast<const float*>(rows.data) + at, v);
  } else {
    const uint4 packed =
        *reinterpret_cast<const uint4*>(static_cast<const __nv_bfloat16*>(rows.data) + at);
    const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[2 * i] = __uint_as_float(words[i] << 16);
      v[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000U);
    }
  }
}

__device__ __forceinline__ float silu_times(float gate, float up) {
  constexpr float kLog2E = 1.4426950408889634F;
  return gate * prims::reciprocal_approx(1.0F + prims::exp2_approx(-kLog2E * gate)) * up;
}

// ---- The source

/// One row of a source as FP32 values; of kNorm the values before the row's common factor.
template <SourceKind kSource>
struct SourceRow {
  const RowSource& source;
  int64_t row_idx;
  bool is_aligned;

  [[nodiscard]] __device__ int num_channels() const { return static_cast<int>(source.k); }

  __device__ void chunk(int begin, float (&v)[kChunk]) const {
    load_chunk(source.x, row_idx, begin, num_channels(), is_aligned, v);
    if constexpr (kSource == SourceKind::kSiluMul) {
      float up[kChunk];
      load_chunk(source.other, row_idx, begin, num_channels(), is_aligned, up);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) v[i] = silu_times(v[i], up[i]);
    }
    if constexpr (kSource == SourceKind::kNorm) times_weight(begin, v);
  }

  __device__ void times_weight(int begin, float (&v)[kChunk]) const {
    const FloatRows weights{source.weight, 0, FloatType::kF32};
    float weight[kChunk];
    load_chunk(weights, 0, begin, num_channels(), is_aligned, weight);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) v[i] *= weight[i];
  }

  [[nodiscard]] __device__ float at(int i) const {
    const float x = load_float(source.x, row_idx * source.x.stride + i);
    if constexpr (kSource == SourceKind::kSiluMul) {
      return silu_times(x, load_float(source.other, row_idx * source.other.stride + i));
    }
    if constexpr (kSource == SourceKind::kNorm) return x * source.weight[i];
    return x;
  }

  /// kNorm: x += delta of a chunk, written to its place in the row `to`; the chunk's share of Σx².
  /// v = x · weight.
  __device__ float residual_chunk(int begin, float* to, float (&v)[kChunk]) const {
    load_chunk(source.x, row_idx, begin, num_channels(), is_aligned, v);
    if (source.other.data != nullptr) {
      float delta[kChunk];
      load_chunk(source.other, row_idx, begin, num_channels(), is_aligned, delta);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) v[i] += delta[i];
      if (!is_aligned) {
#pragma unroll
        for (int i = 0; i < kChunk; ++i) {
          if (begin + i < num_channels()) to[begin + i] = v[i];
        }
      } else if (begin < num_channels()) {
        store_floats(to + begin, v);
      }
    }
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) sum = __fmaf_rn(v[i], v[i], sum);
    times_weight(begin, v);
    return sum;
  }
};

/// A row of x, which a norm with a residual writes.
__device__ __forceinline__ float* residual_row(const RowSource& source, int64_t row_idx) {
  return static_cast<float*>(const_cast<void*>(source.x.data)) + row_idx * source.x.stride;
}

/// kNorm: 1/√(mean(x²) + eps).
__device__ __forceinline__ float norm_factor(const RowSource& source, float sum_of_squares) {
  const float mean = __fdiv_rn(sum_of_squares, static_cast<float>(source.k));
  return __fdiv_rn(1.0F, __fsqrt_rn(mean + source.eps));
}

/// Of a permutation, stored positions begin … begin + 7.
__device__ __forceinline__ void load_perm(const int32_t* perm, int begin, int32_t (&from)[kChunk]) {
  const int4 low = reinterpret_cast<const int4*>(perm + begin)[0];
  const int4 high = reinterpret_cast<const int4*>(perm + begin)[1];
  from[0] = low.x, from[1] = low.y, from[2] = low.z, from[3] = low.w;
  from[4] = high.x, from[5] = high.y, from[6] = high.z, from[7] = high.w;
}

/// The row's values: in shared memory, or made again from the source.
template <SourceKind kSource>
struct RowValues {
  SourceRow<kSource> row;
  const float* shared;  // null: not there
  float factor;         // kNorm: 1/√(mean + eps)

  __device__ void chunk(int begin, float (&v)[kChunk]) const {
    if (shared == nullptr) {
      row.chunk(begin, v);
    } else if (begin < row.num_channels()) {
      load_floats(shared + begin, v);
    } else {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) v[i] = 0.0F;
    }
    scale(v);
  }

  /// The channels `from`; 0 for those below 0. Loads from shared memory have no branches between
  /// them, which would make a chain of eight.
  __device__ void gather(const int32_t (&from)[kChunk], float (&v)[kChunk]) const {
    if (shared != nullptr) {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) v[i] = shared[max(from[i], 0)];
#pragma unroll
      for (int i = 0; i < kChunk; ++i) v[i] = from[i] >= 0 ? v[i] : 0.0F;
    } else {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) v[i] = from[i] >= 0 ? row.at(from[i]) : 0.0F;
    }
    scale(v);
  }

  __device__ void scale(float (&v)[kChunk]) const {
    if constexpr (kSource == SourceKind::kNorm) {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) v[i] *= factor;
    }
  }
};

// ---- Codes

/// Bits of the largest |v|: as integers they compare like the floats, with Inf and NaN on top.
__device__ __forceinline__ uint32_t absmax_bits(const float (&v)[kChunk]) {
  float top = 0.0F;
#pragma unroll
  for (int i = 0; i < kChunk; ++i) top = prims::max_or_nan(top, fabsf(v[i]));
  return __float_as_uint(top) & 0x7FFFFFFFU;
}

__device__ __forceinline__ void add_top(const float (&v)[kChunk], bool is_low, Tops& tops) {
  const uint32_t top = absmax_bits(v);
  if (is_low) {
    tops[0] = max(tops[0], top);
  } else {
    tops[1] = max(tops[1], top);
  }
}

/// Scale of a span, the factor of its values, and 0 or all ones: what its codes are masked with.
struct SpanScale {
  float scale;
  float factor;
  uint32_t mask;
};

__device__ __forceinline__ SpanScale span_scale(uint32_t top_bits, float limit, float clip) {
  if (top_bits >= kInfinityBits) return {__uint_as_float(0x7FC00000U), 0.0F, 0};
  const float a = __fmul_rn(clip, __uint_as_float(top_bits));
  if (a < kSmallest) return {0.0F, 0.0F, 0};
  return {__fdiv_rn(a, limit), __fdiv_rn(limit, a), kAllLanes};
}

__device__ __forceinline__ uint32_t pack_bytes(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  return __byte_perm(__byte_perm(a, b, 0x0040), __byte_perm(c, d, 0x0040), 0x5410);
}

__device__ __forceinline__ float clamped(float v, float limit) {
  return fminf(fmaxf(v, -limit), limit);
}

/// Two's complement in the low byte; |v| ≤ 127.
__device__ __forceinline__ uint32_t int8_byte(float v) {
  return __float_as_uint(__fadd_rn(v, kRound));
}

/// E4M3 of |v| ≤ 448, rounded to nearest even, in the low byte.
__device__ __forceinline__ uint32_t e4m3_byte(float v) {
  const uint32_t bits = __float_as_uint(v);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  // Below 2⁻⁶: adding 2¹⁴ leaves rne(|v| · 2⁹) in the low mantissa bits.
  const uint32_t subnormal =
      __float_as_uint(__fadd_rn(__uint_as_float(magnitude), 0x1p14F)) - 0x46800000U;
  const uint32_t normal = (magnitude + 0x7FFFFU + ((magnitude >> 20) & 1U) - 0x3C000000U) >> 20;
  return (bits >> 24 & 0x80U) | (magnitude < 0x3C800000U ? subnormal : normal);
}

template <bool kIsE4m3>
__device__ __forceinline__ uint32_t code_byte(float v) {
  if constexpr (kIsE4m3) return e4m3_byte(v);
  return int8_byte(v);
}

/// Codes of v · factor (or v / factor where the scale is static).
template <bool kIsE4m3>
__device__ __forceinline__ uint2 encode(const float (&v)[kChunk], const SpanScale& span,
                                        float limit, bool divide) {
  uint32_t code[kChunk];
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    const float scaled = divide ? __fdiv_rn(v[i], span.factor) : __fmul_rn(v[i], span.factor);
    code[i] = code_byte<kIsE4m3>(clamped(scaled, limit));
  }
  return make_uint2(pack_bytes(code[0], code[1], code[2], code[3]) & span.mask,
                    pack_bytes(code[4], code[5], code[6], code[7]) & span.mask);
}

/// 128-point Hadamard transform over 16 lanes in Sylvester order: stages of stride 1, 2, 4 within a
/// lane, then 8 … 64 between lanes; then · 1/√128.
__device__ __forceinline__ void rotate_block(float (&v)[kChunk]) {
#pragma unroll
  for (int stride = 1; stride < kChunk; stride *= 2) {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      if ((i & stride) != 0) continue;
      const float a = v[i];
      const float b = v[i + stride];
      v[i] = __fadd_rn(a, b);
      v[i + stride] = __fsub_rn(a, b);
    }
  }
#pragma unroll
  for (int stride = 1; stride < kBlockLanes; stride *= 2) {
    const float sign = (threadIdx.x & stride) != 0 ? -1.0F : 1.0F;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const float other = __shfl_xor_sync(kAllLanes, v[i], stride);
      v[i] = __fmaf_rn(v[i], sign, other);  // rounded once: the sum or the difference
    }
  }
  constexpr float kNorm = 0.08838834764831845F;  // 1/√128
#pragma unroll
  for (int i = 0; i < kChunk; ++i) v[i] = __fmul_rn(v[i], kNorm);
}

/// Rotates the blocks of the lanes that say so. A warp may hold the last INT4 block and the first
/// INT8 one: every lane takes part.
__device__ __forceinline__ void rotate_where(bool is_rotated, float (&v)[kChunk]) {
  if (!__any_sync(kAllLanes, is_rotated)) return;
  float rotated[kChunk];
#pragma unroll
  for (int i = 0; i < kChunk; ++i) rotated[i] = v[i];
  rotate_block(rotated);
#pragma unroll
  for (int i = 0; i < kChunk; ++i) v[i] = is_rotated ? rotated[i] : v[i];
}

/// Chunks of a row's first segment.
__device__ __forceinline__ int border_of(const BlockSink& sink) {
  return static_cast<int>(sink.int4_blocks) * kBlockLanes;
}
__device__ __forceinline__ int border_of(const CodeSink& /*sink*/) { return INT_MAX; }

/// Scales and codes of a row. Of w8a8: one scale.
template <class Sink>
struct RowCoder {
  SpanScale span;
  bool is_static;

  __device__ __forceinline__ RowCoder(const Sink& sink, const Tops& tops)
      : span(span_scale(tops[0], Sink::kLimit, 1.0F)), is_static(sink.static_scale > 0) {
    if (is_static && tops[0] < kInfinityBits) {
      span = {sink.static_scale, sink.static_scale, kAllLanes};
    }
  }

  __device__ __forceinline__ void store_scales(const Sink& sink, int64_t row_idx) const {
    sink.scales[row_idx * sink.scale_stride] = span.scale;
  }

  __device__ __forceinline__ uint2 codes(const float (&v)[kChunk], bool /*is_low*/) const {
    return encode<Sink::kIsE4m3>(v, span, Sink::kLimit, is_static);
  }
};

/// Of w4ax with a scale a segment (S2, S2h).
template <>
struct RowCoder<BlockSink> {
  SpanScale low;
  SpanScale high;

  __device__ __forceinline__ RowCoder(const BlockSink& sink, const Tops& tops)
      : low(span_scale(tops[0], 7.0F, sink.clip)), high(span_scale(tops[1], 127.0F, 1.0F)) {}

  __device__ __forceinline__ void store_scales(const BlockSink& sink, int64_t row_idx) const {
    sink.scales[row_idx * 2] = low.scale;
    sink.scales[row_idx * 2 + 1] = high.scale;
  }

  __device__ __forceinline__ uint2 codes(const float (&v)[kChunk], bool is_low) const {
    // Member by member: a choice of spans would be one of code, or of local memory.
    const SpanScale span{0.0F, is_low ? low.factor : high.factor, is_low ? low.mask : high.mask};
    return encode<false>(v, span, is_low ? 7.0F : 127.0F, false);
  }
};

// ---- Host

inline bool is_multiple(int64_t value, int64_t of) { return value % of == 0; }
inline bool is_aligned_to(const void* pointer, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

inline bool chunks_are_aligned(const FloatRows& rows) {
  return is_multiple(rows.stride, kChunk) && is_aligned_to(rows.data, 16);
}

/// A null `other` or `weight` is aligned.
inline bool chunks_are_aligned(const RowSource& source) {
  return is_multiple(source.k, kChunk) && chunks_are_aligned(source.x) &&
         chunks_are_aligned(source.other) && is_aligned_to(source.weight, 16);
}

}  // namespace comet::formats::cuda
