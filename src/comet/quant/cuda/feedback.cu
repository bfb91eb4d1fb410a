// GPTQ's feedback within a block of 128 columns in coding order (weights/gptq.h): column i of a row
// is rounded after adding what columns before it left over, Σ_{j<i} Δ_j · factor[i, j].
// Operands: see launches.h. One warp a row, four columns a lane (lane, lane + 32, …); the block of
// the factor lies in shared memory, [j][i]. Σ over earlier blocks comes in as `carried`.
// Numerics: every operation of code_lanes() in its order (product and sum apart): given the same
// factor and carried sums, the same codes.
// Floor: latency: 128 dependent steps of some 100 cycles a row, all rows side by side: 10 µs.
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/quant/cuda/launches.h"

namespace comet::quant::cuda {
namespace {

constexpr int kColumns = static_cast<int>(kFeedbackColumns);
constexpr int kPerLane = kColumns / 32;
constexpr int kStride = kColumns + 1;  // of a row in shared memory: it is written by columns
constexpr int kWarps = 16;
constexpr int kThreads = 32 * kWarps;
constexpr int kRowsPerWarp = 2;
constexpr int kRowsPerCta = kWarps * kRowsPerWarp;
constexpr int kSharedBytes = kColumns * kStride * static_cast<int>(sizeof(float));
constexpr int kGroup = 128;  // channels of a scale
constexpr unsigned kAllLanes = 0xFFFFFFFFU;
constexpr float kMaxProgressiveCode = 15.0F;

struct DeviceLevels {
  float step;
  float inverse;  // 0 where step is 0
  float base;
  float low;
  float high;
};

/// WeightGrid::levels.
__device__ DeviceLevels levels_of(const DeviceGrid& grid, int64_t row, int64_t group) {
  DeviceLevels levels{0.0F, 0.0F, 0.0F, grid.low, grid.high};
  const int64_t cell = group * grid.num_rows + row;
  if (grid.group_multiplier != nullptr) {
    const float scale = grid.channel_scale[row];
    const auto g = static_cast<float>(grid.group_multiplier[cell]);
    const auto o = static_cast<float>(grid.group_offset[cell]);
    levels.step = scale * g;
    levels.base = scale * o;
    levels.low = fmaxf(0.0F, ceilf((-128.0F - o) / g));
    levels.high = fminf(kMaxProgressiveCode, floorf((127.0F - o) / g));
  } else {
    levels.step = grid.group_scale != nullptr ? grid.group_scale[cell] : grid.channel_scale[row];
  }
  if (levels.step > 0.0F) levels.inverse = 1.0F / levels.step;
  return levels;
}

__device__ float nearest_code(const DeviceLevels& levels, float w) {
  const float code = levels.step > 0.0F ? rintf((w - levels.base) * levels.inverse) : 0.0F;
  return fminf(fmaxf(code, levels.low), levels.high);
}

/// block[j][i] = factor[begin + i, begin + j].
__device__ void load_block(const FeedbackArgs& args, float* block) {
  for (int idx = static_cast<int>(threadIdx.x); idx < kColumns * kColumns; idx += kThreads) {
    const int i = idx / kColumns;
    const int j = idx % kColumns;
    block[j * kStride + i] = args.factor[(args.begin + i) * args.k + args.begin + j];
  }
}

/// One row whose index in the chunk is `row`.
__device__ void code_row(const FeedbackArgs& args, const float* block, int64_t row, int lane) {
  const int64_t weight_row = args.first_row + row;
  float w[kPerLane];
  float before[kPerLane];
  float within[kPerLane];
  int channel[kPerLane];
  DeviceLevels levels[kPerLane];
#pragma unroll
  for (int r = 0; r < kPerLane; ++r) {
    const int column = lane + 32 * r;
    channel[r] = args.order[args.begin + column];
    w[r] = args.stored[weight_row * args.k + channel[r]];
    before[r] = args.carried == nullptr ? 0.0F : args.carried[row * kColumns + column];
    within[r] = 0.0F;
    levels[r] = levels_of(args.grid, weight_row, channel[r] / kGroup);
  }
#pragma unroll
  for (int r = 0; r < kPerLane; ++r) {
    float code = 0.0F;
    float error = 0.0F;
    for (int s = 0; s < 32; ++s) {
      // All lanes round their column; that of lane s is complete.
      const float candidate = nearest_code(levels[r], w[r] + before[r] + within[r]);
      const float left = w[r] - (levels[r].base + levels[r].step * candidate);
      if (lane == s) {
        code = candidate;
        error = left;
      }
      const float delta = __shfl_sync(kAllLanes, left, s);
      const float* source = block + (32 * r + s) * kStride + lane;
#pragma unroll
      for (int later = r; later < kPerLane; ++later) {
        within[later] = within[later] + source[32 * later] * delta;
      }
    }
    args.codes[weight_row * args.k + channel[r]] = static_cast<int8_t>(code);
    args.delta[row * args.k + args.begin + lane + 32 * r] = error;
  }
}

__global__ void __launch_bounds__(kThreads) feedback_kernel(FeedbackArgs args) {
  extern __shared__ float block[];
  load_block(args, block);
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRowsPerCta + threadIdx.x / 32;
  for (int i = 0; i < kRowsPerWarp; ++i) {
    const int64_t row = first + i * kWarps;
    if (row < args.num_rows) code_row(args, block, row, lane);
  }
}

}  // namespace

void launch_feedback(const FeedbackArgs& args, cudaStream_t stream) {
  if (args.num_rows == 0) return;
  COMET_CUDA(cudaFuncSetAttribute(feedback_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kSharedBytes));
  const auto grid = static_cast<unsigned>((args.num_rows + kRowsPerCta - 1) / kRowsPerCta);
  feedback_kernel<<<grid, kThreads, kSharedBytes, stream>>>(args);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::quant::cuda
