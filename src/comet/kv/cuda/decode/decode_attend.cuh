// Attention of a CTA's warps over the pages of one KV head: online softmax a warp, and the warps'
// sums put together. Included by decode.cu and append_decode.cu.
#pragma once

#include "comet/device/cuda/prims/access.cuh"
#include "comet/kv/cuda/decode/decode_ring.cuh"

namespace comet::kv {

/// Online softmax of eight heads; e = 0, 1: heads 2·t, 2·t + 1. sum and low are of the lane's rows.
template <typename S>
struct Running {
  float o[S::Tile::kBlocks][4] = {};
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};
  float low[2] = {};  // Σ p · (what a centred code 0 stands for)
};

/// Scores in base 2 of rows < num_rows, −∞ beyond; `params` are 0 there.
template <typename S>
__device__ __forceinline__ void page_scores(float (&s)[2][4], RowParams (&params)[4],
                                            const typename S::Tile::Query& query,
                                            const uint8_t* page, int num_rows, float scale) {
  const int lane = threadIdx.x % 32;
  S::Tile::scores(s, query, page, lane);
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int row = 8 * r + lane / 4;
    const bool is_valid = row < num_rows;
    float key_scale = scale;
    if constexpr (S::Tile::kCoded) {
      params[r] = S::Tile::params(page, row);
      if (!is_valid) params[r] = {0.0F, 0.0F, 0.0F, 0.0F};
      key_scale *= params[r].key_scale;
    }
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      float& x = s[r / 2][r % 2 * 2 + e];
      if constexpr (S::Tile::kCoded) {
        x = fmaf(key_scale, x, params[r].key_low * scale * query.sum[e]);
      } else {
        x *= key_scale;
      }
      if (!is_valid) x = -INFINITY;
    }
  }
}

/// The page's part of the maxima; sums and outputs are brought to it.
template <typename S>
__device__ __forceinline__ void raise_maxima(Running<S>& run, const float (&s)[2][4],
                                             const RowParams (&params)[4]) {
  float high[2] = {-INFINITY, -INFINITY};
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    float shift = 0.0F;
    if constexpr (S::Tile::kCoded) shift = __log2f(fmaxf(params[r].value_scale, 0x1p-24F));
#pragma unroll
    for (int e = 0; e < 2; ++e) high[e] = fmaxf(high[e], s[r / 2][r % 2 * 2 + e] + shift);
  }
#pragma unroll
  for (int e = 0; e < 2; ++e) {
#pragma unroll
    for (int stride = 4; stride < 32; stride *= 2) {
      high[e] = fmaxf(high[e], __shfl_xor_sync(kAllLanes, high[e], stride));
    }
  }
  if (__any_sync(kAllLanes, high[0] > run.max[0] || high[1] > run.max[1])) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float raised = fmaxf(run.max[e], high[e]);
      const float factor = prims::exp2_approx(run.max[e] - raised);
      run.max[e] = raised;
      run.sum[e] *= factor;
      run.low[e] *= factor;
#pragma unroll
      for (int n = 0; n < S::Tile::kBlocks; ++n) {
        run.o[n][e] *= factor;
        run.o[n][2 + e] *= factor;
      }
    }
  }
}

template <typename S>
__device__ __forceinline__ void attend_page(Running<S>& run, const typename S::Tile::Query& query,
                                            const uint8_t* page, int num_rows, float scale) {
  const int lane = threadIdx.x % 32;
  float s[2][4];
  RowParams params[4];
  page_scores<S>(s, params, query, page, num_rows, scale);
  raise_maxima<S>(run, s, params);
  uint32_t p[2][2];
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    float weight[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      weight[e] = prims::exp2_approx(s[r / 2][r % 2 * 2 + e] - run.max[e]);
      run.sum[e] += weight[e];
      if constexpr (S::Tile::kCoded) {
        run.low[e] = fmaf(weight[e], params[r].value_low, run.low[e]);
        weight[e] *= params[r].value_scale;
      }
    }
    p[r / 2][r % 2] = prims::movmatrix_trans(S::Tile::pack(weight[0], weight[1]));
  }
  S::Tile::values(run.o, p, page + S::Map::kPartBytes, lane, num_rows);
}

/// The warp's pages, rows from first_row on; `complete(page, i)` may write to the copy of page i.
template <typename S, class Complete>
__device__ __forceinline__ void attend_pages(Running<S>& run, PageRing<S>& ring,
                                             const typename S::Tile::Query& query, int first_row,
                                             int kv_len, const Complete& complete) {
  for (int i = 0; i < ring.num_pages; ++i) {
    uint8_t* page = ring.wait();
    complete(page, i);
    attend_page<S>(run, query, page, kv_len - first_row - i * S::kWarps * kPageRows, ring.kp.scale);
    __syncwarp();
    ring.issue();
  }
}

/// The warps' sums in shared memory, by head.
template <typename S>
struct MergeArea {
  float* sums;  // [warp][head][kMergeStride]
  float (*max)[kHeadsPerPass];
  float (*sum)[kHeadsPerPass];

  __device__ __forceinline__ void put(Running<S>& run, int warp, int lane) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
#pragma unroll
      for (int stride = 4; stride < 32; stride *= 2) {
        run.sum[e] += __shfl_xor_sync(kAllLanes, run.sum[e], stride);
        run.low[e] += __shfl_xor_sync(kAllLanes, run.low[e], stride);
      }
      const int head = lane % 4 * 2 + e;
      float* row = sums + (warp * kHeadsPerPass + head) * S::kMergeStride;
#pragma unroll
      for (int n = 0; n < S::Tile::kBlocks; ++n) {
        row[S::Tile::dim_of(n, 0, lane / 4)] = run.o[n][e] + run.low[e];
        row[S::Tile::dim_of(n, 1, lane / 4)] = run.o[n][2 + e] + run.low[e];
      }
      if (lane < 4) {
        max[warp][head] = run.max[e];
        sum[warp][head] = run.sum[e];
      }
    }
  }

  /// All warps' numerators of two dims of a head, and the head's maximum and denominator.
  struct Merged {
    float x;
    float y;
    float max;
    float sum;
  };
  __device__ __forceinline__ Merged get(int head, int dim) const {
    Merged m = {0.0F, 0.0F, max[0][head], 0.0F};
    for (int w = 1; w < S::kWarps; ++w) m.max = fmaxf(m.max, max[w][head]);
    const float reference = m.max == -INFINITY ? 0.0F : m.max;  // no rows: weights are 0
    for (int w = 0; w < S::kWarps; ++w) {
      const float weight = prims::exp2_approx(max[w][head] - reference);
      const float* row = sums + (w * kHeadsPerPass + head) * S::kMergeStride + dim;
      m.x = fmaf(weight, row[0], m.x);
      m.y = fmaf(weight, row[1], m.y);
      m.sum = fmaf(weight, sum[w][head], m.sum);
    }
    return m;
  }
};

__device__ __forceinline__ int pages_of(int kv_len) { return (kv_len + kPageRows - 1) / kPageRows; }

/// Numerators over their denominator as two BF16; 0 of an empty sequence.
__device__ __forceinline__ uint32_t quotients(float x, float y, float sum) {
  const float inverse = sum == 0.0F ? 0.0F : 1.0F / sum;
  return pack_bf16(x * inverse, y * inverse);
}

}  // namespace comet::kv
