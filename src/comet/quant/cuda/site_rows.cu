// Rows as integer kernels will see them, for Hessians: stored[j] = rows[perm[j]], INT4 blocks times
// the Hadamard matrix, then code · scale (docs/formats.md §1, §2.4).
// Operands: rows [tokens, k] F32 → out [tokens, k_padded] F32. One CTA a token, one warp a block of
// 128 channels at a time, four neighbouring channels a lane.
// Numerics: every operation of fmpq/activation_rows.cpp in its order: the same bits.
// Floor: 12 bytes a value (read, written, read again from L2); 2,048 × 14,336: 0.35 GB, 0.1 ms.
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/quant/cuda/launches.h"

namespace comet::quant::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kBlock = 128;
constexpr int kPerLane = kBlock / 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFU;
constexpr float kSmallest = 0x1p-100F;
constexpr float kA4 = 7.0F;
constexpr float kA8 = 127.0F;

__device__ void load_stored(const SiteRowsArgs& args, const float* row, int begin,
                            float (&v)[kPerLane]) {
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int j = begin + i;
    const int channel = args.perm == nullptr ? j : args.perm[j];
    v[i] = channel >= 0 && channel < args.k ? row[channel] : 0.0F;
  }
}

/// Stages of stride 1 and 2 in a lane, 4 … 64 across lanes.
__device__ void rotate(float (&v)[kPerLane], int lane) {
#pragma unroll
  for (int stride = 1; stride < kPerLane; stride *= 2) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if ((i & stride) != 0) continue;
      const float a = v[i];
      const float b = v[i + stride];
      v[i] = a + b;
      v[i + stride] = a - b;
    }
  }
#pragma unroll
  for (int mask = 1; mask < 32; mask *= 2) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const float other = __shfl_xor_sync(kAllLanes, v[i], mask);
      v[i] = (lane & mask) == 0 ? v[i] + other : other - v[i];
    }
  }
  constexpr float kFactor = 0.08838834764831845F;  // float(1/√128)
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) v[i] *= kFactor;
}

__device__ float warp_max(float x) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, mask));
  return x;
}

__device__ void code(float (&v)[kPerLane], float absmax, float clip, float max_code) {
  const float a = clip * absmax;
  const bool is_zero = a < kSmallest;
  const float r = max_code / a;
  const float scale = a / max_code;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const float q = fminf(fmaxf(rintf(v[i] * r), -max_code), max_code);
    v[i] = is_zero ? 0.0F : q * scale;
  }
}

__global__ void __launch_bounds__(kThreads) site_rows_kernel(SiteRowsArgs args) {
  __shared__ float maxima[2][kWarps];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t token = blockIdx.x;
  const float* row = args.rows + token * args.k;
  float* out = args.out + token * args.k_padded;
  float largest[2] = {0.0F, 0.0F};  // of the INT4 and the INT8 segment
  for (int block = warp * kBlock; block < args.k_padded; block += kWarps * kBlock) {
    const int at = block + lane * kPerLane;
    const bool int4 = block < args.int4_channels;
    float v[kPerLane];
    load_stored(args, row, at, v);
    if (int4 && args.rotates) rotate(v, lane);
    float top = 0.0F;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) top = fmaxf(top, fabsf(v[i]));
    top = warp_max(top);
    largest[int4 ? 0 : 1] = fmaxf(largest[int4 ? 0 : 1], top);
    if (args.is_coded && args.per_block) {
      code(v, top, int4 ? args.clip : 1.0F, int4 ? kA4 : kA8);
    }
    *reinterpret_cast<float4*>(out + at) = make_float4(v[0], v[1], v[2], v[3]);
  }
  if (!args.is_coded || args.per_block) return;
  if (lane == 0) {
    maxima[0][warp] = largest[0];
    maxima[1][warp] = largest[1];
  }
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    largest[0] = fmaxf(largest[0], maxima[0][w]);
    largest[1] = fmaxf(largest[1], maxima[1][w]);
  }
  for (int block = warp * kBlock; block < args.k_padded; block += kWarps * kBlock) {
    const int at = block + lane * kPerLane;
    const bool int4 = block < args.int4_channels;
    const float4 stored = *reinterpret_cast<const float4*>(out + at);
    float v[kPerLane] = {stored.x, stored.y, stored.z, stored.w};
    code(v, int4 ? largest[0] : largest[1], int4 ? args.clip : 1.0F, int4 ? kA4 : kA8);
    *reinterpret_cast<float4*>(out + at) = make_float4(v[0], v[1], v[2], v[3]);
  }
}

}  // namespace

void launch_site_rows(const SiteRowsArgs& args, cudaStream_t stream) {
  if (args.num_rows == 0) return;
  site_rows_kernel<<<static_cast<unsigned>(args.num_rows), kThreads, 0, stream>>>(args);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::quant::cuda
