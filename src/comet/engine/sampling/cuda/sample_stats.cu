// First half of sampling: what has to be known of whole rows before a token can be chosen.
// logits [rows, vocab] F32. Grids: one CTA per chunk of 4,096 logits and row; edits: one CTA per
// row.
//   raw_stats     maximum, first index of it, Σ exp(logit − max), whether all are finite
//   edit_logits   the request's changes, in place, in the CPU's order and roundings; keeps raw
//   values edited_stats  maximum and first index again, of rows with edits mass_stats    Σ weights
//   as integers, and candidates below each rung, of rows that are drawn
// Floor: 4 · rows · vocab bytes per pass at read rate; 256 rows of 128,256: 131 MB, 33 µs at 4
// TB/s; greedy rows need the first pass only, drawn rows two and a part.
#include "comet/device/cuda/cuda_check.h"
#include "comet/engine/sampling/cuda/sample_parts.cuh"

namespace comet::engine {
namespace {

constexpr int kThreads = 256;
constexpr int kPerThread = kChunk / kThreads;

/// The thread's logits of the chunk: element j is number j · kThreads + threadIdx.x of it.
struct ChunkValues {
  float v[kPerThread];
  int32_t first;  // id of element 0
  int32_t vocab;

  __device__ __forceinline__ ChunkValues(const SampleArgs& args, int32_t chunk, int32_t row)
      : first(chunk * kChunk + static_cast<int32_t>(threadIdx.x)), vocab(args.vocab) {
    const float* logits = args.logits + row * args.stride;
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) v[j] = exists(j) ? logits[id(j)] : 0.0F;
  }
  [[nodiscard]] __device__ __forceinline__ int32_t id(int j) const { return first + j * kThreads; }
  [[nodiscard]] __device__ __forceinline__ bool exists(int j) const { return id(j) < vocab; }
  [[nodiscard]] __device__ __forceinline__ Best best() const {
    Best result;
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      if (exists(j)) result.take(v[j], id(j));
    }
    return result;
  }
};

__global__ void __launch_bounds__(kThreads) raw_stats_kernel(SampleArgs args, RawStats* stats) {
  __shared__ Best bests[32];
  __shared__ float sums[33];
  const auto chunk = static_cast<int32_t>(blockIdx.x);
  const auto row = static_cast<int32_t>(blockIdx.y);
  const ChunkValues values(args, chunk, row);
  const Best best = block_best(values.best(), bests);
  bool is_finite = true;
  float sum[1] = {0.0F};
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    if (!values.exists(j)) continue;
    is_finite = is_finite && fabsf(values.v[j]) <= 3.402823466e38F;
    sum[0] += expf(values.v[j] - best.max);
  }
  const bool all_finite = __syncthreads_and(is_finite ? 1 : 0) != 0;
  block_totals(sum, sums);
  if (threadIdx.x == 0) {
    stats[static_cast<int64_t>(row) * gridDim.x + chunk] = {best.max, sum[0], best.idx,
                                                            all_finite ? 1 : 0};
  }
}

/// A logit after one edit: forbidden, bias, then penalties in double, as engine/sampling does.
__device__ __forceinline__ float edited(float raw, const SampleEdit& edit, const SampleRow& row) {
  float logit = edit.is_forbidden != 0 ? -__builtin_huge_valf() : raw;
  logit += edit.bias;
  if (edit.num_output < 0) return logit;
  double x = logit;
  x = x > 0 ? x / row.repetition_penalty : x * row.repetition_penalty;
  x -= row.frequency_penalty * static_cast<double>(edit.num_output);
  if (edit.num_output > 0) x -= row.presence_penalty;
  return static_cast<float>(x);
}

__global__ void __launch_bounds__(kThreads) edit_logits_kernel(SampleArgs args, float* originals) {
  const int64_t row_idx = blockIdx.x;
  const SampleRow& row = args.params[row_idx];
  float* logits = args.logits + row_idx * args.stride;
  for (int32_t i = row.edits_begin + static_cast<int32_t>(threadIdx.x); i < row.edits_end;
       i += kThreads) {
    const SampleEdit edit = args.edits[i];
    if (edit.token < 0 || edit.token >= args.vocab) continue;
    const float raw = logits[edit.token];
    originals[i] = raw;
    logits[edit.token] = edited(raw, edit, row);
  }
}

__global__ void __launch_bounds__(kThreads)
    edited_stats_kernel(SampleArgs args, EditedStats* stats) {
  __shared__ Best bests[32];
  const auto chunk = static_cast<int32_t>(blockIdx.x);
  const auto row = static_cast<int32_t>(blockIdx.y);
  if (args.params[row].edits_begin == args.params[row].edits_end) return;
  const Best best = block_best(ChunkValues(args, chunk, row).best(), bests);
  if (threadIdx.x == 0) {
    stats[static_cast<int64_t>(row) * gridDim.x + chunk] = {best.max, best.idx};
  }
}

__global__ void __launch_bounds__(kThreads)
    mass_stats_kernel(SampleArgs args, Workspace workspace) {
  __shared__ Best bests[32];
  __shared__ uint64_t sums[(kNumRungs + 1) * 33];
  const auto chunk = static_cast<int32_t>(blockIdx.x);
  const auto row_idx = static_cast<int32_t>(blockIdx.y);
  const SampleRow& row = args.params[row_idx];
  if (row.scale <= 0) return;
  // The row's maximum.
  const int64_t row_at = static_cast<int64_t>(row_idx) * gridDim.x;
  const bool is_edited = row.edits_begin != row.edits_end;
  Best best;
  for (int i = static_cast<int>(threadIdx.x); i < static_cast<int>(gridDim.x); i += kThreads) {
    best.take(is_edited ? workspace.edited[row_at + i].max : workspace.raw[row_at + i].max, i);
  }
  const float max = block_best(best, bests).max;
  // Sums, and candidates below the rungs.
  const bool counts = has_top_k(row, args.vocab);
  const bool truncates = counts || row.top_p < 1.0 || row.min_p > 0;
  const ChunkValues values(args, chunk, row_idx);
  uint64_t total[kNumRungs + 1] = {};
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    if (!values.exists(j)) continue;
    const float exponent = (values.v[j] - max) * row.scale;
    const uint64_t mass = mass_of(expf(exponent));
    total[kNumRungs] += mass;
    if (!truncates) continue;
    const uint64_t measure = counts ? 1 : mass;
#pragma unroll
    for (int i = 0; i < kNumRungs; ++i) total[i] += exponent >= -rung_of(i) ? measure : 0;
  }
  block_totals(total, sums);
  if (threadIdx.x == 0) {
    MassStats& stats = workspace.mass[row_at + chunk];
    stats.total = total[kNumRungs];
#pragma unroll
    for (int i = 0; i < kNumRungs; ++i) stats.below[i] = total[i];
  }
}

}  // namespace

void launch_sample_stats(const SampleArgs& args, const Workspace& workspace, CUstream_st* stream) {
  const dim3 grid(static_cast<unsigned>(num_chunks(args.vocab)), static_cast<unsigned>(args.rows));
  raw_stats_kernel<<<grid, kThreads, 0, stream>>>(args, workspace.raw);
  if (args.num_edits > 0) {
    edit_logits_kernel<<<static_cast<unsigned>(args.rows), kThreads, 0, stream>>>(
        args, workspace.originals);
    edited_stats_kernel<<<grid, kThreads, 0, stream>>>(args, workspace.edited);
  }
  if (args.has_draws) mass_stats_kernel<<<grid, kThreads, 0, stream>>>(args, workspace);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::engine
