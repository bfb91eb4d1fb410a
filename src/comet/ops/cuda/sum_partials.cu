// Sums of partials [num_rows, n] over the rows, added to up to six targets that share a row.
// Grid: a CTA takes 32 columns; its groups of 32 threads take every kGroups-th row, then their sums
// are added in order: the same bits each time. Few rows take four groups: such a CTA is small
// enough to wait beside one of the kernel that makes the partials. With arrivals it waits for
// those: it has been placed when all CTAs of that kernel had been, and had seen the end of the
// kernel before, so that arrivals are theirs and will come; and when the sums are written, so is
// all else that kernel writes.
#include <algorithm>
#include <iterator>

#include "comet/base/check.h"
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/ops/cuda/image_launches.h"

namespace comet::ops_cuda {
namespace {

constexpr int kColumns = 32;
constexpr int kFewRows = 160;

struct Targets {
  SumTarget targets[6];
};

template <int kGroups>
__global__ void __launch_bounds__(kColumns* kGroups, kGroups == 4 ? 16 : 1)
    sum_partials_kernel(Targets all, const float* partials, int64_t num_rows, int64_t n,
                        Arrivals arrivals) {
  constexpr int kBatch = kGroups == 4 ? 16 : 8;  // rows that are read before the first is added
  __shared__ float shared[kGroups][kColumns];
  const int lane = static_cast<int>(threadIdx.x) % kColumns;
  const int group = static_cast<int>(threadIdx.x) / kColumns;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + lane;
  prims::allow_next_kernel();
  if (arrivals.count == nullptr) {
    prims::wait_for_previous_kernel();
  } else {
    if (threadIdx.x == 0) prims::wait_for_arrivals(arrivals.count, arrivals.num);
    __syncthreads();
  }
  float* target = nullptr;
  float old = 0.0F;  // read beside the partials
  if (group == 0) {
    int64_t within = column;
#pragma unroll
    for (const SumTarget& each : all.targets) {
      if (within >= 0 && within < each.n) target = each.sums + within;
      within -= each.n;
    }
    if (target != nullptr) old = *target;
  }
  float sum = 0.0F;
  if (column < n) {
#pragma unroll kBatch
    for (int64_t row = group; row < num_rows; row += kGroups) sum += partials[row * n + column];
  }
  shared[group][lane] = sum;
  __syncthreads();
  if (arrivals.count != nullptr && threadIdx.x == 32) {  // one thread of a CTA that waits no more
    prims::leave_arrivals(arrivals.count, arrivals.num + gridDim.x);
  }
  if (target == nullptr) return;
#pragma unroll
  for (int i = 1; i < kGroups; ++i) sum += shared[i][lane];
  *target = old + sum;
}

}  // namespace

void launch_sum_partials(std::initializer_list<SumTarget> targets, const float* partials,
                         int64_t num_rows, CUstream_st* stream) {
  launch_sum_partials(targets, partials, num_rows, Arrivals{}, stream);
}

void launch_sum_partials(std::initializer_list<SumTarget> targets, const float* partials,
                         int64_t num_rows, const Arrivals& arrivals, CUstream_st* stream) {
  Targets all = {};
  COMET_CHECK(targets.size() <= std::size(all.targets), "{} targets of sums", targets.size());
  std::copy(targets.begin(), targets.end(), all.targets);
  int64_t n = 0;
  for (const SumTarget& target : targets) n += target.n;
  if (n == 0) return;
  const dim3 grid(static_cast<unsigned>((n + kColumns - 1) / kColumns));
  if (num_rows <= kFewRows) {
    launch_overlapped({grid, kColumns * 4, 0, stream}, sum_partials_kernel<4>, all, partials,
                      num_rows, n, arrivals);
  } else {
    launch_overlapped({grid, kColumns * 32, 0, stream}, sum_partials_kernel<32>, all, partials,
                      num_rows, n, arrivals);
  }
}

}  // namespace comet::ops_cuda
