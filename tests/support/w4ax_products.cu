// w4ax's products of reference_products.h: exact int32 sums of a block, put together as
// docs/formats.md §1 says, every operation of FP32 written out.
#include <cuda_fp16.h>

#include "support/reference_products.h"

namespace comet::testing {
namespace {

constexpr int kBlock = 128;  // channels
constexpr int kTileRows = 128;
constexpr int kTileBytes = 8192;
constexpr int kChainBlocks = 8;
constexpr int kTile = 64;  // tokens and outputs of a CTA
constexpr int kThreads = 256;
constexpr int kEach = 4;
constexpr int kWords = kBlock / 4;

/// q_w, or u·g + o, of stored row and channel: the picture of formats/w4ax/layout.h.
__global__ void unpack_kernel(W4axOperands p, int8_t* codes8) {
  const int64_t width = int64_t{p.blocks} * kBlock;
  const int64_t rows = int64_t{p.num_tiles} * kTileRows;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < rows * width;
       i += int64_t{gridDim.x} * blockDim.x) {
    const int64_t row = i / width;
    const int64_t k = i % width;
    const int64_t tile = row / kTileRows * p.blocks + k / kBlock;
    const int64_t lane = row % 8 * 4 + k % 16 / 4;
    const int64_t word = k % 32 / 16 * 2 + row % 16 / 8;
    const int64_t byte = tile * kTileBytes + k % kBlock / 64 * 4096 + row % kTileRows / 16 * 512 +
                         lane * 16 + word * 4 + k % 4;
    const int nibble = p.packed[byte] >> (k % 64 >= 32 ? 4 : 0) & 15;
    const int64_t group = k / kBlock * rows + row;
    codes8[i] =
        static_cast<int8_t>(p.multiplier != nullptr ? nibble * p.multiplier[group] + p.offset[group]
                                                    : (nibble ^ 8) - 8);
  }
}

/// The sums of one output, blocks in ascending order.
struct Sums {
  int32_t low = 0;   // the INT4 segment
  int32_t high = 0;  // the INT8 segment
  float chain = 0;
  float total = 0;
};

__device__ bool is_chained(const W4axOperands& p) {
  return p.block_scales || p.group_scale != nullptr;
}

__device__ void add_block(const W4axOperands& p, int64_t token, int64_t row, int block, int32_t sum,
                          Sums& s) {
  if (!is_chained(p)) {
    (block < p.int4_blocks ? s.low : s.high) += sum;
    return;
  }
  float scale = p.block_scales ? p.x_scales[token * p.blocks + block]
                               : p.x_scales[token * 2 + (block < p.int4_blocks ? 0 : 1)];
  if (p.group_scale != nullptr) {
    const int64_t group = int64_t{block} * p.num_tiles * kTileRows + row;
    scale = __fmul_rn(scale, __half2float(__ushort_as_half(p.group_scale[group])));
  }
  s.chain = __fmaf_rn(scale, __int2float_rn(sum), s.chain);
  if (block % kChainBlocks == kChainBlocks - 1 || block == p.blocks - 1) {
    s.total = __fadd_rn(s.total, s.chain);
    s.chain = 0;
  }
}

__device__ float result(const W4axOperands& p, int64_t token, int64_t row, const Sums& s) {
  float y = s.total;
  if (!is_chained(p)) {
    const float* scales = p.x_scales + token * 2;
    if (p.int4_blocks == 0) {
      y = __fmul_rn(scales[1], __int2float_rn(s.high));
    } else {
      y = __fmul_rn(scales[0], __int2float_rn(s.low));
      if (p.int4_blocks < p.blocks) y = __fmaf_rn(scales[1], __int2float_rn(s.high), y);
    }
  }
  return p.channel_scale == nullptr ? y : __fmul_rn(p.channel_scale[row], y);
}

__global__ void __launch_bounds__(kThreads)
    product_kernel(W4axOperands p, const int8_t* codes8, float* y) {
  __shared__ int32_t x_tile[kTile][kWords + 1];
  __shared__ int32_t w_tile[kTile][kWords + 1];
  const int64_t width = int64_t{p.blocks} * kBlock;
  const int64_t first_token = int64_t{blockIdx.y} * kTile;
  const int64_t first_row = int64_t{blockIdx.x} * kTile;
  const int column = static_cast<int>(threadIdx.x) % 16;
  const int line = static_cast<int>(threadIdx.x) / 16;
  Sums sums[kEach][kEach];
  for (int block = 0; block < p.blocks; ++block) {
    for (int i = static_cast<int>(threadIdx.x); i < kTile * kWords; i += kThreads) {
      const int64_t at = i / kWords;
      const int64_t channel = int64_t{block} * kBlock + i % kWords * 4;
      const int64_t token = first_token + at;
      x_tile[at][i % kWords] =
          token < p.tokens ? *reinterpret_cast<const int32_t*>(p.codes + token * width + channel)
                           : 0;
      w_tile[at][i % kWords] =
          *reinterpret_cast<const int32_t*>(codes8 + (first_row + at) * width + channel);
    }
    __syncthreads();
    int32_t parts[kEach][kEach] = {};
    for (int i = 0; i < kWords; ++i) {
#pragma unroll
      for (int t = 0; t < kEach; ++t) {
#pragma unroll
        for (int r = 0; r < kEach; ++r) {
          parts[t][r] = __dp4a(x_tile[line + 16 * t][i], w_tile[column + 16 * r][i], parts[t][r]);
        }
      }
    }
    __syncthreads();
#pragma unroll
    for (int t = 0; t < kEach; ++t) {
#pragma unroll
      for (int r = 0; r < kEach; ++r) {
        const int64_t token = first_token + line + 16 * t;
        if (token >= p.tokens) continue;
        add_block(p, token, first_row + column + 16 * r, block, parts[t][r], sums[t][r]);
      }
    }
  }
#pragma unroll
  for (int t = 0; t < kEach; ++t) {
#pragma unroll
    for (int r = 0; r < kEach; ++r) {
      const int64_t token = first_token + line + 16 * t;
      const int64_t row = first_row + column + 16 * r;
      if (token >= p.tokens) continue;
      y[token * p.num_tiles * kTileRows + row] = result(p, token, row, sums[t][r]);
    }
  }
}

}  // namespace

void launch_w4ax_reference(const W4axOperands& operands, int8_t* codes8, float* y,
                           cudaStream_t stream) {
  unpack_kernel<<<1024, kThreads, 0, stream>>>(operands, codes8);
  const dim3 grid(static_cast<unsigned>(operands.num_tiles * kTileRows / kTile),
                  static_cast<unsigned>((operands.tokens + kTile - 1) / kTile));
  product_kernel<<<grid, kThreads, 0, stream>>>(operands, codes8, y);
}

}  // namespace comet::testing
