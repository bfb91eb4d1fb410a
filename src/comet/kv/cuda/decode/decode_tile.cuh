// A page of one KV head against eight query heads, by one warp: how each format's codes become the
// A fragments of mma.m16n8k16. Caller: decode.cu.
//
// S^T [32 rows, 8 heads] = K · Q^T and O^T [head_dim, 8 heads] += V^T · P^T: the cache is the A
// operand, so eight heads fill the N side. Lane = 4·g + t. Scores: s[b][2·h + e] is row
// 16·b + 8·h + g of the page, head 2·t + e. Output: o[n][2·h + e] is dim dim_of(n, h, g), head
// 2·t + e.
//
// Codes become FP16 by placing them in the mantissa of 1024 (ulp 1): low nibbles of byte pairs are
// then 1024 + u, high nibbles 1024 + 16·u. For K the 16 goes into q (a power of two) and the 1024
// into the start of the sums; for V one exact half2 instruction takes both away.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "comet/device/cuda/prims/access.cuh"
#include "comet/device/cuda/prims/ldmatrix.cuh"
#include "comet/device/cuda/prims/mma.cuh"
#include "comet/kv/cuda/page_map.h"

namespace comet::kv {

constexpr uint32_t kHalf1024 = 0x64006400;    // two FP16 1024
constexpr int kAndOr = (0xF0 & 0xCC) | 0xAA;  // lop3: (a & b) | c, which the compiler makes two of
constexpr uint32_t kHalfOnes = 0x3C003C00;

__device__ __forceinline__ float bf16_low(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float bf16_high(uint32_t pair) {
  return __uint_as_float(pair & 0xFFFF0000U);
}
__device__ __forceinline__ uint32_t pack_half(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ uint32_t half2_add(uint32_t a, uint32_t b) {
  const __half2 sum =
      __hadd2(*reinterpret_cast<const __half2*>(&a), *reinterpret_cast<const __half2*>(&b));
  return *reinterpret_cast<const uint32_t*>(&sum);
}
__device__ __forceinline__ uint32_t half2_fma(uint32_t a, uint32_t b, uint32_t c) {
  const __half2 sum =
      __hfma2(*reinterpret_cast<const __half2*>(&a), *reinterpret_cast<const __half2*>(&b),
              *reinterpret_cast<const __half2*>(&c));
  return *reinterpret_cast<const uint32_t*>(&sum);
}

/// Codes of a 32-bit word.
template <int kWords>
__device__ __forceinline__ void load_words(uint32_t (&w)[kWords], const uint8_t* shared) {
  static_assert(kWords == 2 || kWords == 4);
  if constexpr (kWords == 4) {
    const uint4 v = *reinterpret_cast<const uint4*>(shared);
    w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
  } else {
    const uint2 v = *reinterpret_cast<const uint2*>(shared);
    w[0] = v.x, w[1] = v.y;
  }
}

/// What a row's codes stand for: x̂ = s·(code − zero) + m.
struct RowParams {
  float key_scale = 1.0F;
  float key_low = 0.0F;
  float value_scale = 1.0F;
  float value_low = 0.0F;  // of the centred code that values() multiplies
};

template <PageFormat kFormat, int kDim>
struct DecodeTile;

template <int kDim>
struct DecodeTile<PageFormat::kKv16, kDim> {
  static constexpr bool kCoded = false;
  static constexpr int kBlocks = kDim / 16;  // of 16 dims
  using Map = PageMap<PageFormat::kKv16, kDim>;

  /// Q^T fragments; `row` is head g's query, or none.
  struct Query {
    uint32_t b[kBlocks][2];
    __device__ __forceinline__ void load(const uint16_t* row, int t) {
      const auto* words = reinterpret_cast<const uint32_t*>(row);
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) {
        b[i][0] = row == nullptr ? 0 : words[8 * i + t];
        b[i][1] = row == nullptr ? 0 : words[8 * i + 4 + t];
      }
    }
  };

  static __device__ __forceinline__ int dim_of(int n, int h, int g) { return 16 * n + 8 * h + g; }

  static __device__ __forceinline__ void scores(float (&s)[2][4], const Query& query,
                                                const uint8_t* keys, int lane) {
    const int row = lane % 8 + lane / 8 % 2 * 8;
#pragma unroll
    for (int b = 0; b < 2; ++b) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[b][i] = 0.0F;
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) {
        uint32_t a[4];
        const int chunk = i % 4 * 2 + lane / 16;
        prims::ldmatrix_x4(a, keys + i / 4 * (kPageRows * 128) + (16 * b + row) * 128 +
                                  ((chunk ^ (lane % 8)) * 16));
        prims::mma_m16n8k16_bf16(s[b], a, query.b[i]);
      }
    }
  }

  /// Rows from num_rows on may hold anything: their lanes' values are cleared.
  static __device__ __forceinline__ void values(float (&o)[kBlocks][4], const uint32_t (&p)[2][2],
                                                const uint8_t* values, int lane, int num_rows) {
    const int row = lane % 8 + lane / 16 * 8;
    const int t = lane % 4;
    const auto mask_of = [&](int first) {
      return (first < num_rows ? 0xFFFFU : 0U) | (first + 1 < num_rows ? 0xFFFF0000U : 0U);
    };
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      const uint32_t low = mask_of(16 * b + 2 * t);
      const uint32_t high = mask_of(16 * b + 8 + 2 * t);
#pragma unroll
      for (int n = 0; n < kBlocks; ++n) {
        uint32_t a[4];
        const int chunk = n % 4 * 2 + lane / 8 % 2;
        prims::ldmatrix_x4_trans(a, values + n / 4 * (kPageRows * 128) + (16 * b + row) * 128 +
                                        ((chunk ^ (lane % 8)) * 16));
        a[0] &= low, a[1] &= low, a[2] &= high, a[3] &= high;
        prims::mma_m16n8k16_bf16(o[n], a, p[b]);
      }
    }
  }

  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    return pack_bf16(low, high);
  }
};

/// What kv8 and kv4 share: q in FP16, the start of the sums, and products with V's codes.
template <int kDim>
struct CodedQuery {
  static constexpr int kBlocks = kDim / 16;
  uint32_t b[kBlocks][2];
  float start[2];  // of the sums of heads 2·t and 2·t + 1: −offset · Σ b
  float sum[2];    // Σ q of these heads

  /// From b: kOffset is what each code is too large by, kHighFactor what b[][1] was divided by.
  __device__ __forceinline__ void sum_up(float offset, float high_factor) {
    float low_sum[4] = {};
    float high_sum[4] = {};
    const uint32_t low_ones[4] = {kHalfOnes, kHalfOnes, 0, 0};
    const uint32_t high_ones[4] = {0, 0, kHalfOnes, kHalfOnes};
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      prims::mma_m16n8k16_f16(low_sum, low_ones, b[i]);
      prims::mma_m16n8k16_f16(high_sum, high_ones, b[i]);
    }
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      start[e] = -offset * (low_sum[e] + high_sum[e]);
      sum[e] = low_sum[e] + high_factor * high_sum[e];
    }
  }
};

template <int kDim>
struct DecodeTile<PageFormat::kKv8, kDim> {
  static constexpr bool kCoded = true;
  static constexpr int kBlocks = kDim / 16;
  static constexpr float kOffset = 1024.0F + 128.0F;
  using Map = PageMap<PageFormat::kKv8, kDim>;

  struct Query : CodedQuery<kDim> {
    __device__ __forceinline__ void load(const uint16_t* row, int t) {
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) {  // dims 64·(i/4) + 16·t + 4·(i%4) … + 3
        uint2 four = {0, 0};
        if (row != nullptr) {
          four = *reinterpret_cast<const uint2*>(row + i / 4 * 64 + 16 * t + i % 4 * 4);
        }
        this->b[i][0] = pack_half(bf16_low(four.x), bf16_high(four.x));
        this->b[i][1] = pack_half(bf16_low(four.y), bf16_high(four.y));
      }
      this->sum_up(kOffset, 1.0F);
    }
  };

  static __device__ __forceinline__ int dim_of(int n, int h, int g) { return 16 * n + 2 * g + h; }

  static __device__ __forceinline__ void scores(float (&s)[2][4], const Query& query,
                                                const uint8_t* keys, int lane) {
#pragma unroll
    for (int b = 0; b < 2; ++b) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[b][i] = query.start[i % 2];
#pragma unroll
      for (int c = 0; c < kDim / 64; ++c) {
        uint32_t first[4];
        uint32_t second[4];
        const uint8_t* rows = keys + c * (kPageRows * 64) + 16 * b * 64 + lane * 16;
        load_words(first, rows);            // row g
        load_words(second, rows + 8 * 64);  // row g + 8
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const uint32_t a[4] = {
              __byte_perm(first[i], kHalf1024, 0x5150), __byte_perm(second[i], kHalf1024, 0x5150),
              __byte_perm(first[i], kHalf1024, 0x5352), __byte_perm(second[i], kHalf1024, 0x5352)};
          prims::mma_m16n8k16_f16(s[b], a, query.b[4 * c + i]);
        }
      }
    }
  }

  static __device__ __forceinline__ void values(float (&o)[kBlocks][4], const uint32_t (&p)[2][2],
                                                const uint8_t* values, int lane, int /*num_rows*/) {
    constexpr uint32_t kMinusOffset = 0xE480E480;  // two FP16 −1152
#pragma unroll
    for (int b = 0; b < 2; ++b) {
#pragma unroll
      for (int c = 0; c < kDim / 64; ++c) {
        uint32_t first[4];
        uint32_t second[4];
        load_words(first, values + ((2 * b * (kDim / 64) + c) * 32 + lane) * 16);
        load_words(second, values + (((2 * b + 1) * (kDim / 64) + c) * 32 + lane) * 16);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const uint32_t a[4] = {
              half2_add(__byte_perm(first[i], kHalf1024, 0x5250), kMinusOffset),
              half2_add(__byte_perm(first[i], kHalf1024, 0x5351), kMinusOffset),
              half2_add(__byte_perm(second[i], kHalf1024, 0x5250), kMinusOffset),
              half2_add(__byte_perm(second[i], kHalf1024, 0x5351), kMinusOffset)};
          prims::mma_m16n8k16_f16(o[4 * c + i], a, p[b]);
        }
      }
    }
  }

  static __device__ __forceinline__ RowParams params(const uint8_t* page, int row) {
    RowParams r;
    r.key_scale = __half2float(reinterpret_cast<const __half*>(page + Map::kCodesBytes)[row]);
    r.value_scale = __half2float(
        reinterpret_cast<const __half*>(page + Map::kPartBytes + Map::kCodesBytes)[row]);
    return r;
  }
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    return pack_half(low, high);
  }
};

template <int kDim>
struct DecodeTile<PageFormat::kKv4, kDim> {
  static constexpr bool kCoded = true;
  static constexpr int kBlocks = kDim / 16;
  static constexpr int kWords = kDim / 32;  // of a lane and row
  static constexpr float kCentre = 8.0F;    // V's codes are multiplied as u − 8
  using Map = PageMap<PageFormat::kKv4, kDim>;

  struct Query : CodedQuery<kDim> {
    __device__ __forceinline__ void load(const uint16_t* row, int t) {
#pragma unroll
      for (int i = 0; i < kWords; ++i) {  // dims t·kDim/4 + 8·i … + 7 of word i
        uint4 v = {0, 0, 0, 0};
        if (row != nullptr) v = *reinterpret_cast<const uint4*>(row + t * (kDim / 4) + 8 * i);
        constexpr float kHigh = 1.0F / 16.0F;
        this->b[2 * i][0] = pack_half(bf16_low(v.x), bf16_low(v.z));                        // 0, 4
        this->b[2 * i][1] = pack_half(bf16_high(v.x) * kHigh, bf16_high(v.z) * kHigh);      // 1, 5
        this->b[2 * i + 1][0] = pack_half(bf16_low(v.y), bf16_low(v.w));                    // 2, 6
        this->b[2 * i + 1][1] = pack_half(bf16_high(v.y) * kHigh, bf16_high(v.w) * kHigh);  // 3, 7
      }
      this->sum_up(1024.0F, 16.0F);
    }
  };

  static __device__ __forceinline__ int dim_of(int n, int h, int g) {
    return n / 2 * 32 + 4 * g + n % 2 * 2 + h;
  }

  /// Nibbles 0 and 4 as 1024 + u, 1 and 5 as 1024 + 16·u.
  static __device__ __forceinline__ uint32_t low_nibbles(uint32_t w) {
    return prims::lop3<kAndOr>(w, 0x000F000FU, kHalf1024);
  }
  static __device__ __forceinline__ uint32_t high_nibbles(uint32_t w) {
    return prims::lop3<kAndOr>(w, 0x00F000F0U, kHalf1024);
  }

  static __device__ __forceinline__ void scores(float (&s)[2][4], const Query& query,
                                                const uint8_t* keys, int lane) {
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      uint32_t first[kWords];
      uint32_t second[kWords];
      const uint8_t* rows = keys + 16 * b * Map::kRowBytes + lane * (kDim / 8);
      load_words(first, rows);                        // row g
      load_words(second, rows + 8 * Map::kRowBytes);  // row g + 8
#pragma unroll
      for (int i = 0; i < 4; ++i) s[b][i] = query.start[i % 2];
#pragma unroll
      for (int i = 0; i < kWords; ++i) {
        const uint32_t even[4] = {low_nibbles(first[i]), low_nibbles(second[i]),
                                  high_nibbles(first[i]), high_nibbles(second[i])};
        prims::mma_m16n8k16_f16(s[b], even, query.b[2 * i]);
        first[i] >>= 8, second[i] >>= 8;
        const uint32_t odd[4] = {low_nibbles(first[i]), low_nibbles(second[i]),
                                 high_nibbles(first[i]), high_nibbles(second[i])};
        prims::mma_m16n8k16_f16(s[b], odd, query.b[2 * i + 1]);
      }
    }
  }

  static __device__ __forceinline__ uint32_t centred_low(uint32_t w) {
    return half2_add(low_nibbles(w), 0xE408E408);  // − 1032
  }
  static __device__ __forceinline__ uint32_t centred_high(uint32_t w) {
    return half2_fma(high_nibbles(w), 0x2C002C00, 0xD480D480);  // / 16 − 72
  }

  static __device__ __forceinline__ void values(float (&o)[kBlocks][4], const uint32_t (&p)[2][2],
                                                const uint8_t* values, int lane, int /*num_rows*/) {
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      uint32_t first[kWords];
      uint32_t second[kWords];
      load_words(first, values + (2 * b * 32 + lane) * (kDim / 8));
      load_words(second, values + ((2 * b + 1) * 32 + lane) * (kDim / 8));
#pragma unroll
      for (int i = 0; i < kWords; ++i) {
        const uint32_t even[4] = {centred_low(first[i]), centred_high(first[i]),
                                  centred_low(second[i]), centred_high(second[i])};
        prims::mma_m16n8k16_f16(o[2 * i], even, p[b]);
        first[i] >>= 8, second[i] >>= 8;
        const uint32_t odd[4] = {centred_low(first[i]), centred_high(first[i]),
                                 centred_low(second[i]), centred_high(second[i])};
        prims::mma_m16n8k16_f16(o[2 * i + 1], odd, p[b]);
      }
    }
  }

  static __device__ __forceinline__ RowParams params(const uint8_t* page, int row) {
    const float2 key =
        __half22float2(reinterpret_cast<const __half2*>(page + Map::kCodesBytes)[row]);
    const float2 value = __half22float2(
        reinterpret_cast<const __half2*>(page + Map::kPartBytes + Map::kCodesBytes)[row]);
    return {key.x, key.y, value.x, fmaf(kCentre, value.x, value.y)};
  }
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    return pack_half(low, high);
  }
};

}  // namespace comet::kv
