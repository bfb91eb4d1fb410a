// y[t, c] = Σ_k w[c, k] · x[t, k] + bias[c] for at most 16 tokens, BF16 or F16, FP32 sums.
// x [rows, k], w [n, k] row-major, out [rows, n].
// Grid: a CTA of 8 warps for each 16 channels; warp i takes k = 64·i … + 63 of every 512, and the
// warps' sums are added in order of i. Tensor cores (m16n8k16: channels × tokens) because 16
// tokens would keep the FP32 units busy longer than memory. A lane loads 16 bytes of k in a row:
// words 0, 1 are the first product's two halves of k, words 2, 3 the second's, for w and x alike
// (any order of k gives the sum).
// Bytes: 2·n·k of weights, read once; 8 KB in flight per warp, 16 warps an SM. Floor: 8B gate_up on
// an H200 at 4.3 TB/s: 55 µs.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/prims/access.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/mma.cuh"
#include "comet/formats/dense/cuda/gemv.h"

namespace comet::formats::dense {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kChannels = 16;
constexpr int kSpan = 32;  // k that the 4 lanes of a row load at once, 8 each
constexpr int kSpans = 2;  // of a step: 128 contiguous bytes of a row
constexpr int kSteps = 2;  // whose loads are issued together
constexpr int kWarpStride = kSpan * kSpans;
constexpr int kCtaStride = kWarpStride * kWarps;

struct LoadedWeights {
  uint4 v[kSteps][kSpans][2];  // of channels group and group + 8
};

/// Channels group, group + 8 and tokens group, group + 8; a step is eight rows, or none where there
/// is no second. Rows that do not exist are others: nobody stores their products.
struct LaneRows {
  const uint8_t* w;
  const uint8_t* x;
  int w_step_bytes;
  int x_step_bytes;
  int k_end;
};

/// Behind k_end the last ones again: their tokens are 0.
__device__ __forceinline__ void load_weights(const LaneRows& rows, int k, LoadedWeights& w) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int span = 0; span < kSpans; ++span) {
      const int at = min(k + step * kCtaStride + span * kSpan, rows.k_end - 8);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        w.v[step][span][i] =
            prims::load_ordered_16(rows.w + i * rows.w_step_bytes + int64_t{at} * 2);
      }
    }
  }
}

/// A plain load: the kernel ahead may write tokens while this one starts, so they are not
/// read-only data.
__device__ __forceinline__ uint4 load_tokens(const LaneRows& rows, int tile, int k) {
  if (k >= rows.k_end) return make_uint4(0, 0, 0, 0);
  return *reinterpret_cast<const uint4*>(rows.x + tile * rows.x_step_bytes + int64_t{k} * 2);
}

template <bool kF16>
__device__ __forceinline__ void multiply(float (&sums)[4], uint4 w0, uint4 w1, uint4 x) {
  const uint32_t a_low[4] = {w0.x, w1.x, w0.y, w1.y};
  const uint32_t a_high[4] = {w0.z, w1.z, w0.w, w1.w};
  const uint32_t b_low[2] = {x.x, x.y};
  const uint32_t b_high[2] = {x.z, x.w};
  if constexpr (kF16) {
    prims::mma_m16n8k16_f16(sums, a_low, b_low);
    prims::mma_m16n8k16_f16(sums, a_high, b_high);
  } else {
    prims::mma_m16n8k16_bf16(sums, a_low, b_low);
    prims::mma_m16n8k16_bf16(sums, a_high, b_high);
  }
}

template <bool kF16, int kTokenTiles>
__device__ __forceinline__ void multiply_tokens(const LaneRows& rows, int k, const LoadedWeights& w,
                                                float (&sums)[kTokenTiles][4]) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int span = 0; span < kSpans; ++span) {
#pragma unroll
      for (int tile = 0; tile < kTokenTiles; ++tile) {
        const uint4 x = load_tokens(rows, tile, k + step * kCtaStride + span * kSpan);
        multiply<kF16>(sums[tile], w.v[step][span][0], w.v[step][span][1], x);
      }
    }
  }
}

__device__ __forceinline__ void store(void* out, bool is_bf16, int64_t element, float y) {
  if (is_bf16) {
    static_cast<__nv_bfloat16*>(out)[element] = __float2bfloat16_rn(y);
  } else {
    static_cast<float*>(out)[element] = y;
  }
}

__device__ __forceinline__ LaneRows lane_rows(const GemvArgs& args) {
  const int group = static_cast<int>(threadIdx.x) % 32 / 4;
  const int channel = min(static_cast<int>(blockIdx.x) * kChannels + group, args.n - 1);
  const int token = min(group, args.rows - 1);
  LaneRows rows;
  rows.w = static_cast<const uint8_t*>(args.w) + int64_t{channel} * args.k * 2;
  rows.x = static_cast<const uint8_t*>(args.x) + token * args.x_stride * 2;
  rows.w_step_bytes = channel + 8 < args.n ? 8 * args.k * 2 : 0;
  rows.x_step_bytes = token + 8 < args.rows ? static_cast<int>(8 * args.x_stride * 2) : 0;
  rows.k_end = args.k;
  return rows;
}

template <bool kF16, int kTokenTiles>
__global__ void __launch_bounds__(kThreads, 2) gemv(const GemvArgs args) {
  __shared__ float partial[kWarps][kTokenTiles * 8][kChannels];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  prims::allow_next_kernel();  // it waits for this one's end before it reads what this one writes
  const LaneRows rows = lane_rows(args);
  float sums[kTokenTiles][4] = {};
  const int lane_k = lane % 4 * 8;
  LoadedWeights w;
  load_weights(rows, warp * kWarpStride + lane_k, w);
  // The kernel ahead makes x; weights are on their way while it ends.
  prims::wait_for_previous_kernel();
  for (int k = warp * kWarpStride; k < args.k; k += kSteps * kCtaStride) {
    LoadedWeights next;
    load_weights(rows, k + kSteps * kCtaStride + lane_k, next);
    multiply_tokens<kF16, kTokenTiles>(rows, k + lane_k, w, sums);
    w = next;
  }
#pragma unroll
  for (int tile = 0; tile < kTokenTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      partial[warp][tile * 8 + lane % 4 * 2 + i % 2][lane / 4 + i / 2 * 8] = sums[tile][i];
    }
  }
  __syncthreads();
  const int token = static_cast<int>(threadIdx.x) / kChannels;
  const int channel = static_cast<int>(blockIdx.x) * kChannels + threadIdx.x % kChannels;
  if (token >= args.rows || channel >= args.n) return;
  float y = 0.0F;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) y += partial[i][token][threadIdx.x % kChannels];
  if (args.bias != nullptr) y += args.bias[channel];
  store(args.out, args.is_bf16_out, token * args.out_stride + channel, y);
}

__global__ void add_bias(const BiasArgs args) {
  const int channel = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (channel >= args.n) return;
  const float bias = args.bias == nullptr ? 0.0F : args.bias[channel];
  for (int row = static_cast<int>(blockIdx.y); row < args.rows;
       row += static_cast<int>(gridDim.y)) {
    const float sum = args.sums[int64_t{row} * args.n + channel];
    const float y = args.bias == nullptr ? sum : sum + bias;
    store(args.out, args.is_bf16_out, row * args.out_stride + channel, y);
  }
}

__global__ void cast_bf16(const __nv_bfloat16* x, void* out, bool to_f16, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float value = __bfloat162float(x[i]);
  if (to_f16) {
    static_cast<__half*>(out)[i] = __float2half_rn(value);
  } else {
    static_cast<float*>(out)[i] = value;
  }
}

}  // namespace

void launch_gemv(const GemvArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  const int num_ctas = (args.n + kChannels - 1) / kChannels;
  auto* kernel = args.is_f16 ? gemv<true, 2> : args.rows <= 8 ? gemv<false, 1> : gemv<false, 2>;
  launch_overlapped({.grid = dim3(static_cast<unsigned>(num_ctas)),
                     .threads = kThreads,
                     .stream = stream,
                     .overlaps = args.may_start_early},
                    kernel, args);
}

void launch_add_bias(const BiasArgs& args, CUstream_st* stream) {
  if (args.rows == 0 || args.n == 0) return;
  constexpr unsigned kBlock = 256;
  constexpr int kMaxGridRows = 65535;
  const dim3 grid((static_cast<unsigned>(args.n) + kBlock - 1) / kBlock,
                  static_cast<unsigned>(args.rows < kMaxGridRows ? args.rows : kMaxGridRows));
  add_bias<<<grid, kBlock, 0, stream>>>(args);
  COMET_CUDA(cudaGetLastError());
}

void launch_cast_bf16(const void* x, void* out, bool to_f16, int64_t count, CUstream_st* stream) {
  if (count == 0) return;
  constexpr int kBlock = 256;
  const auto grid = static_cast<unsigned>((count + kBlock - 1) / kBlock);
  cast_bf16<<<grid, kBlock, 0, stream>>>(static_cast<const __nv_bfloat16*>(x), out, to_f16, count);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::formats::dense
