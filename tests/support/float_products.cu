// Sums of reference_products.h in FP64, and comparisons of outputs with them.
#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include "support/reference_products.h"

namespace comet::testing {
namespace {

constexpr int kTile = 64;  // rows and columns of a CTA
constexpr int kDepth = 16;
constexpr int kThreads = 256;
constexpr int kEach = 4;  // rows, and columns, of a thread, 16 apart

struct PackedValues {
  PackedWeight weight;
  __device__ double operator()(int64_t row, int32_t channel) const {
    const int64_t at = row * weight.k_stored + channel;
    const int code = static_cast<int>(weight.words[at / 8] >> (4 * (at % 8)) & 15U);
    const int64_t group = row * (weight.k_stored / weight.group) + channel / weight.group;
    const int zero = weight.zeros == nullptr ? 8 : weight.zeros[group];
    const double value =
        static_cast<double>(code - zero) * static_cast<double>(weight.scales[group]);
    if (!weight.is_rounded) return value;
    return static_cast<double>(__bfloat162float(__float2bfloat16_rn(static_cast<float>(value))));
  }
};

struct Bf16Values {
  const uint16_t* x;
  int64_t stride;
  __device__ double operator()(int64_t row, int32_t channel) const {
    return static_cast<double>(
        __uint_as_float(static_cast<uint32_t>(x[row * stride + channel]) << 16));
  }
};

struct E4m3Values {
  const uint8_t* x;
  int64_t stride;
  __device__ double operator()(int64_t row, int32_t channel) const {
    __nv_fp8_e4m3 value;
    value.__x = x[row * stride + channel];
    return static_cast<double>(static_cast<float>(value));
  }
};

template <class Tokens, class Weights>
__global__ void __launch_bounds__(kThreads)
    sums_kernel(Tokens x, Weights w, int32_t rows, int32_t n, int32_t k, FloatSums out) {
  __shared__ double x_tile[kTile][kDepth + 1];
  __shared__ double w_tile[kTile][kDepth + 1];
  const int64_t first_row = int64_t{blockIdx.y} * kTile;
  const int64_t first_column = int64_t{blockIdx.x} * kTile;
  const int column = static_cast<int>(threadIdx.x) % 16;
  const int row = static_cast<int>(threadIdx.x) / 16;
  double sums[kEach][kEach] = {};
  float sizes[kEach][kEach] = {};
  for (int32_t begin = 0; begin < k; begin += kDepth) {
    for (int i = static_cast<int>(threadIdx.x); i < kTile * kDepth; i += kThreads) {
      const int at = i / kDepth;
      const int32_t channel = begin + i % kDepth;
      const bool is_inside = channel < k;
      x_tile[at][i % kDepth] =
          is_inside && first_row + at < rows ? x(first_row + at, channel) : 0.0;
      w_tile[at][i % kDepth] =
          is_inside && first_column + at < n ? w(first_column + at, channel) : 0.0;
    }
    __syncthreads();
    for (int i = 0; i < kDepth; ++i) {
#pragma unroll
      for (int r = 0; r < kEach; ++r) {
#pragma unroll
        for (int c = 0; c < kEach; ++c) {
          const double term = x_tile[row + 16 * r][i] * w_tile[column + 16 * c][i];
          sums[r][c] += term;
          sizes[r][c] += fabsf(static_cast<float>(term));
        }
      }
    }
    __syncthreads();
  }
  for (int r = 0; r < kEach; ++r) {
    for (int c = 0; c < kEach; ++c) {
      const int64_t out_row = first_row + row + 16 * r;
      const int64_t out_column = first_column + column + 16 * c;
      if (out_row >= rows || out_column >= n) continue;
      out.sums[out_row * n + out_column] = sums[r][c];
      out.sizes[out_row * n + out_column] = sizes[r][c];
    }
  }
}

template <class Tokens, class Weights>
void launch_sums(const Tokens& x, const Weights& w, int32_t rows, int32_t n, int32_t k,
                 const FloatSums& out, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((n + kTile - 1) / kTile),
                  static_cast<unsigned>((rows + kTile - 1) / kTile));
  sums_kernel<<<grid, kThreads, 0, stream>>>(x, w, rows, n, k, out);
}

__device__ float output_at(const Outputs& out, int64_t row, int64_t column) {
  const int64_t at = row * out.stride + column;
  if (!out.is_bf16) return static_cast<const float*>(out.data)[at];
  return __bfloat162float(static_cast<const __nv_bfloat16*>(out.data)[at]);
}

__device__ void count(uint64_t* counts, int64_t place) {
  atomicAdd(reinterpret_cast<unsigned long long*>(counts), 1ULL);
  atomicMin(reinterpret_cast<unsigned long long*>(counts + 1),
            static_cast<unsigned long long>(place));
}

/// Calls check(row, column, value) for outputs, and counts numbers behind them.
template <class Check>
__device__ void for_each_output(const Outputs& out, uint64_t* counts, const Check& check) {
  const int64_t total = int64_t{out.rows} * out.stride;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < total;
       i += int64_t{gridDim.x} * blockDim.x) {
    const int64_t row = i / out.stride;
    const int64_t column = i % out.stride;
    const float value = output_at(out, row, column);
    const bool is_good = column >= out.n ? isnan(value) : check(row, column, value);
    if (!is_good) count(counts, i);
  }
}

__global__ void set_kernel(uint64_t* counts) {
  counts[0] = 0;
  counts[1] = ~uint64_t{0};
}

__global__ void different_kernel(Outputs out, const float* want, uint64_t* counts) {
  for_each_output(out, counts, [&](int64_t row, int64_t column, float value) {
    float expected = want[row * out.n + column];
    if (out.is_bf16) expected = __bfloat162float(__float2bfloat16_rn(expected));
    return __float_as_uint(value) == __float_as_uint(expected) || (isnan(value) && isnan(expected));
  });
}

__device__ double scale_at(const FloatWant& want, int64_t row, int64_t column) {
  const double by_row =
      want.row_scale == nullptr ? 1.0 : want.row_scale[row * want.row_scale_stride];
  return by_row * (want.column_scale == nullptr ? 1.0 : want.column_scale[column]);
}

__global__ void far_kernel(Outputs out, FloatWant want, uint64_t* counts) {
  for_each_output(out, counts, [&](int64_t row, int64_t column, float value) {
    const int64_t at = row * out.n + column;
    const double scale = scale_at(want, row, column);
    const double expected = scale * want.sums.sums[at];
    const double size = fabs(scale) * static_cast<double>(want.sums.sizes[at]);
    const double rounding = out.is_bf16 ? fabs(expected) * 0x1p-8 : 0.0;
    const double allowed = want.absolute > 0 ? want.absolute : want.factor * (size + 1);
    return fabs(static_cast<double>(value) - expected) <= allowed + rounding;
  });
}

__global__ void largest_kernel(FloatWant want, int32_t rows, int32_t n, float* largest) {
  const int64_t total = int64_t{rows} * n;
  float top = 0;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < total;
       i += int64_t{gridDim.x} * blockDim.x) {
    top = fmaxf(top, fabsf(static_cast<float>(scale_at(want, i / n, i % n) * want.sums.sums[i])));
  }
  atomicMax(reinterpret_cast<unsigned*>(largest), __float_as_uint(top));  // both at least 0
}

constexpr int kCompareCtas = 1024;

}  // namespace

void launch_packed_sums(const PackedWeight& weight, const uint16_t* x, int32_t rows, int32_t n,
                        int32_t k, const FloatSums& out, cudaStream_t stream) {
  launch_sums(Bf16Values{x, k}, PackedValues{weight}, rows, n, k, out, stream);
}

void launch_e4m3_sums(const E4m3Codes& codes, int32_t rows, int32_t n, int32_t k,
                      const FloatSums& out, cudaStream_t stream) {
  launch_sums(E4m3Values{codes.x, codes.x_stride}, E4m3Values{codes.w, codes.w_stride}, rows, n, k,
              out, stream);
}

void launch_count_different(const Outputs& out, const float* want, uint64_t* counts,
                            cudaStream_t stream) {
  set_kernel<<<1, 1, 0, stream>>>(counts);
  different_kernel<<<kCompareCtas, kThreads, 0, stream>>>(out, want, counts);
}

void launch_count_far(const Outputs& out, const FloatWant& want, uint64_t* counts,
                      cudaStream_t stream) {
  set_kernel<<<1, 1, 0, stream>>>(counts);
  far_kernel<<<kCompareCtas, kThreads, 0, stream>>>(out, want, counts);
}

void launch_largest(const FloatWant& want, int32_t rows, int32_t n, float* largest,
                    cudaStream_t stream) {
  cudaMemsetAsync(largest, 0, sizeof(float), stream);
  largest_kernel<<<kCompareCtas, kThreads, 0, stream>>>(want, rows, n, largest);
}

}  // namespace comet::testing
