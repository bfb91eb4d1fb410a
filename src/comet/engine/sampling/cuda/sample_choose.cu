// Second half of sampling: from the statistics of sample_stats.cu to one token per row.
// Grid: one CTA of 512 threads per row. Stages: merge the chunks; greedy rows are done; rows
// without truncation walk the chunks' masses to the drawn one; others collect the candidates that
// can be kept (up to kMaxCandidates, in order of id, into shared memory; else the row itself
// serves), cut them by top-k, then top-p, then min-p, and draw. Numerics: see sample_parts.cuh; the
// draw takes bits 11…63 of the request's random number, as the CPU. Time: greedy some µs; truncated
// rows read the row once more (5 µs for 128,256 logits on one SM), and some 12 searches over the
// candidates; where they exceed kMaxCandidates each search reads the row.
#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/rng.cuh"
#include "comet/engine/sampling/cuda/choose_parts.cuh"

namespace comet::engine {
namespace {

constexpr uint64_t kDrawStream = 1;  // as sampler.cpp
constexpr int kMaxCandidates = 4096;

struct ChooseStorage {
  ChooseShared parts;
  float logits[kMaxCandidates];
  int32_t ids[kMaxCandidates];
};

/// What the chunks say of the row.
struct RowStats {
  Best best;  // of the edited logits
  bool is_finite;
  float raw_max;
  double sum_exp;  // Σ exp(raw logit − raw_max)
};

__device__ __forceinline__ RowStats merge_chunks(const SampleArgs& args, const Workspace& workspace,
                                                 int32_t row_idx, ChooseShared& shared) {
  const int chunks = num_chunks(args.vocab);
  const RawStats* raw = workspace.raw + static_cast<int64_t>(row_idx) * chunks;
  const EditedStats* edited = workspace.edited + static_cast<int64_t>(row_idx) * chunks;
  const SampleRow& row = args.params[row_idx];
  const auto i = static_cast<int>(threadIdx.x);  // chunks ≤ 64 threads
  Best best;
  if (i < chunks) best.take(raw[i].max, raw[i].argmax);
  const bool is_finite = __syncthreads_and(i >= chunks || raw[i].is_finite != 0 ? 1 : 0) != 0;
  const Best raw_best = block_best(best, shared.bests);
  double sum[1] = {0};
  if (i < chunks && is_finite) {
    sum[0] = static_cast<double>(raw[i].sum_exp) *
             exp(static_cast<double>(raw[i].max) - static_cast<double>(raw_best.max));
  }
  block_totals(sum, shared.sum_exps);
  RowStats stats{raw_best, is_finite, raw_best.max, sum[0]};
  if (row.edits_begin != row.edits_end) {
    best = Best{};
    if (i < chunks) best.take(edited[i].max, edited[i].argmax);
    stats.best = block_best(best, shared.bests);
  }
  return stats;
}

/// Candidates with (logit − max) · scale ≥ −spread, in order of id; false when there are too many.
__device__ __forceinline__ bool collect(const TokenList& row, float spread, ChooseStorage& storage,
                                        int32_t& num_collected) {
  constexpr int kEach = 16;
  num_collected = 0;
  for (int32_t tile = 0; tile < row.size; tile += kChooseThreads * kEach) {
    const int32_t begin = tile + static_cast<int32_t>(threadIdx.x) * kEach;
    float v[kEach];
    uint32_t wanted = 0;
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      v[j] = begin + j < row.size ? row.logits[begin + j] : -__builtin_huge_valf();
      if ((v[j] - row.max) * row.scale >= -spread) wanted |= 1U << j;
    }
    uint64_t total = 0;
    const uint64_t before = exclusive_scan(__popc(wanted), total, storage.parts.scan);
    if (num_collected + total > kMaxCandidates) return false;
    int32_t at = num_collected + static_cast<int32_t>(before);
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      if ((wanted >> j & 1) == 0) continue;
      storage.logits[at] = v[j];
      storage.ids[at] = begin + j;
      ++at;
    }
    num_collected += static_cast<int32_t>(total);
  }
  __syncthreads();
  return true;
}

struct Masses {
  uint64_t total;
  uint64_t below[kNumRungs];
};

__device__ __forceinline__ Masses merge_masses(const MassStats* stats, int chunks,
                                               ChooseShared& shared) {
  uint64_t v[kNumRungs] = {};
  uint64_t total[1] = {0};
  const auto i = static_cast<int>(threadIdx.x);
  if (i < chunks) {
    total[0] = stats[i].total;
#pragma unroll
    for (int j = 0; j < kNumRungs; ++j) v[j] = stats[i].below[j];
  }
  block_totals(v, shared.sums);
  block_totals(total, shared.sums);
  Masses result;
  result.total = total[0];
#pragma unroll
  for (int j = 0; j < kNumRungs; ++j) result.below[j] = v[j];
  return result;
}

/// round up(share · mass), at least 1 and at most the mass.
__device__ __forceinline__ uint64_t share_of(double share, uint64_t mass) {
  const uint64_t part = __double2ull_ru(share * __ull2double_rn(mass));
  return part < 1 ? 1 : (part > mass ? mass : part);
}

__device__ __forceinline__ int32_t draw_untruncated(const TokenList& row, const MassStats* stats,
                                                    uint64_t bits, ChooseShared& shared) {
  const int chunks = num_chunks(row.size);
  uint64_t total = 0;
  for (int i = 0; i < chunks; ++i) total += stats[i].total;
  uint64_t left = __umul64hi(bits & ~0x7FFULL, total);
  int chunk = 0;
  while (chunk + 1 < chunks && left >= stats[chunk].total) left -= stats[chunk++].total;
  TokenList part = row;
  part.first = chunk * kChunk;
  part.logits += part.first;
  part.size = min(kChunk, row.size - part.first);
  return draw(part, Kept{}, left, shared);
}

__device__ __forceinline__ int32_t draw_truncated(const TokenList& row, const SampleRow& params,
                                                  const MassStats* stats, uint64_t bits,
                                                  ChooseStorage& storage) {
  ChooseShared& shared = storage.parts;
  const bool counts = has_top_k(params, row.size);
  const Masses masses = merge_masses(stats, num_chunks(row.size), shared);
  const uint64_t p_target = share_of(params.top_p, masses.total);
  // The first rung that holds all that may be kept.
  float spread = 0;
#pragma unroll
  for (int j = kNumRungs - 1; j >= 0; --j) {
    const bool is_enough = counts ? masses.below[j] >= static_cast<uint64_t>(params.top_k)
                           : params.top_p < 1.0 ? masses.below[j] >= p_target
                                                : params.min_p > expf(0.125F - rung_of(j));
    if (is_enough) spread = rung_of(j);
  }
  TokenList list = row;
  int32_t num_collected = 0;
  if (spread > 0 && collect(row, spread, storage, num_collected)) {
    list.logits = storage.logits;
    list.ids = storage.ids;
    list.size = num_collected;
  }
  Kept kept;
  if (counts) kept = cut(list, kept, true, static_cast<uint64_t>(params.top_k), shared);
  if (params.top_p < 1.0) {
    const uint64_t target =
        counts ? share_of(params.top_p, mass_of_kept(list, kept, shared)) : p_target;
    kept = cut(list, kept, false, target, shared);
  }
  kept.floor = params.min_p;
  const uint64_t total = mass_of_kept(list, kept, shared);
  return draw(list, kept, __umul64hi(bits & ~0x7FFULL, total), shared);
}

/// The token's logit before edits.
__device__ __forceinline__ float raw_logit(const SampleArgs& args, const Workspace& workspace,
                                           int32_t row_idx, int32_t token, float* shared) {
  const SampleRow& row = args.params[row_idx];
  if (threadIdx.x == 0) *shared = args.logits[row_idx * args.stride + token];
  __syncthreads();
  for (int32_t i = row.edits_begin + static_cast<int32_t>(threadIdx.x); i < row.edits_end;
       i += kChooseThreads) {
    if (args.edits[i].token == token) *shared = workspace.originals[i];
  }
  __syncthreads();
  return *shared;
}

__global__ void __launch_bounds__(kChooseThreads)
    choose_kernel(SampleArgs args, Workspace workspace) {
  __shared__ ChooseStorage storage;
  __shared__ float chosen_logit;
  const auto row_idx = static_cast<int32_t>(blockIdx.x);
  const SampleRow& params = args.params[row_idx];
  const RowStats stats = merge_chunks(args, workspace, row_idx, storage.parts);
  if (!stats.is_finite) {
    if (threadIdx.x == 0) {
      args.tokens[row_idx] = -1;
      args.logprobs[row_idx] = __int_as_float(0x7FC00000);
    }
    return;
  }
  int32_t token = stats.best.idx;
  if (params.scale > 0 && !isinf(stats.best.max)) {
    const TokenList row{
        args.logits + row_idx * args.stride, nullptr, 0, args.vocab, stats.best.max, params.scale};
    const MassStats* masses =
        workspace.mass + static_cast<int64_t>(row_idx) * num_chunks(args.vocab);
    const uint64_t bits = rng_bits(rng_key(params.seed, kDrawStream), params.counter);
    const bool truncates = has_top_k(params, args.vocab) || params.top_p < 1.0 || params.min_p > 0;
    token = truncates ? draw_truncated(row, params, masses, bits, storage)
                      : draw_untruncated(row, masses, bits, storage.parts);
  }
  const float logit = raw_logit(args, workspace, row_idx, token, &chosen_logit);
  if (threadIdx.x == 0) {
    args.tokens[row_idx] = token;
    const double above_max = static_cast<double>(logit) - static_cast<double>(stats.raw_max);
    args.logprobs[row_idx] = static_cast<float>(above_max - log(stats.sum_exp));
  }
}

int64_t round_up(int64_t bytes) { return (bytes + 15) / 16 * 16; }

}  // namespace

Workspace split_workspace(const SampleArgs& args) {
  const int64_t cells = int64_t{args.rows} * num_chunks(args.vocab);
  auto* at = static_cast<char*>(args.workspace);
  Workspace workspace{};
  workspace.mass = reinterpret_cast<MassStats*>(at);
  at += round_up(cells * static_cast<int64_t>(sizeof(MassStats)));
  workspace.raw = reinterpret_cast<RawStats*>(at);
  at += round_up(cells * static_cast<int64_t>(sizeof(RawStats)));
  workspace.edited = reinterpret_cast<EditedStats*>(at);
  at += round_up(cells * static_cast<int64_t>(sizeof(EditedStats)));
  workspace.originals = reinterpret_cast<float*>(at);
  return workspace;
}

int64_t sample_workspace_bytes(int32_t rows, int32_t vocab, int32_t num_edits) {
  const int64_t cells = int64_t{rows} * num_chunks(vocab);
  return round_up(cells * static_cast<int64_t>(sizeof(MassStats))) +
         round_up(cells * static_cast<int64_t>(sizeof(RawStats))) +
         round_up(cells * static_cast<int64_t>(sizeof(EditedStats))) +
         round_up(int64_t{num_edits} * 4);
}

void launch_sample(const SampleArgs& args, CUstream_st* stream) {
  if (args.rows == 0) return;
  const Workspace workspace = split_workspace(args);
  launch_sample_stats(args, workspace, stream);
  choose_kernel<<<static_cast<unsigned>(args.rows), kChooseThreads, 0, stream>>>(args, workspace);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::engine
