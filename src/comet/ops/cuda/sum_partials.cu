// Sums of partials [num_rows, n] over the rows, added to up to six targets that share a row.
// Grid: a CTA takes 32 columns; 32 groups of 32 threads take every 32nd row, then their sums are
// added in order: the same bits whatever the card.
#include <algorithm>
#include <iterator>

#include "comet/base/check.h"
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/ops/cuda/image_launches.h"

namespace comet::ops_cuda {
namespace {

constexpr int kColumns = 32;
constexpr int kGroups = 32;

struct Targets {
  SumTarget targets[6];
};

__global__ void __launch_bounds__(kColumns* kGroups)
    sum_partials_kernel(Targets all, const float* partials, int64_t num_rows, int64_t n) {
  __shared__ float shared[kGroups][kColumns];
  const int lane = static_cast<int>(threadIdx.x) % kColumns;
  const int group = static_cast<int>(threadIdx.x) / kColumns;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + lane;
  prims::wait_for_previous_kernel();
  prims::allow_next_kernel();
  float sum = 0.0F;
  if (column < n) {
#pragma unroll 8
    for (int64_t row = group; row < num_rows; row += kGroups) sum += partials[row * n + column];
  }
  shared[group][lane] = sum;
  __syncthreads();
  if (group != 0 || column >= n) return;
#pragma unroll
  for (int i = 1; i < kGroups; ++i) sum += shared[i][lane];
  int64_t within = column;
#pragma unroll
  for (const SumTarget& target : all.targets) {
    if (within >= 0 && within < target.n) target.sums[within] += sum;
    within -= target.n;
  }
}

}  // namespace

void launch_sum_partials(std::initializer_list<SumTarget> targets, const float* partials,
                         int64_t num_rows, CUstream_st* stream) {
  Targets all = {};
  COMET_CHECK(targets.size() <= std::size(all.targets), "{} targets of sums", targets.size());
  std::copy(targets.begin(), targets.end(), all.targets);
  int64_t n = 0;
  for (const SumTarget& target : targets) n += target.n;
  if (n == 0) return;
  const auto num_ctas = static_cast<unsigned>((n + kColumns - 1) / kColumns);
  launch_overlapped({dim3(num_ctas), kColumns * kGroups, 0, stream}, sum_partials_kernel, all,
                    partials, num_rows, n);
}

}  // namespace comet::ops_cuda
