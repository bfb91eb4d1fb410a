// o = softmax(q · K^T / √d) · V for sequences of one query token, K and V in pages of 32 tokens.
// Operands: q BF16 [seqs, heads, d]; pages of page_map.h; out BF16 [seqs, heads · d].
// Grid: (splits, kv_heads · ⌈group / 8⌉, seqs); a CTA takes up to pages_per_split pages of one KV
// head for up to eight of its query heads. Its warps take the pages in turn, each with an online
// softmax and a ring of pages of its own (no barrier but at the end): one tensor copy fetches a
// page's K and V of the head (sm_90), or all lanes' cp.async do. The warps are merged through
// shared memory, splits by a second kernel, both in a fixed order. Numerics: FP32 scores and
// softmax (base 2); P in BF16 (kv16) or FP16. With codes, P·s is rounded, not P: its reference is
// the running maximum of score + log2 s, so that P·s ≤ 1 fits FP16. Bytes of LLaMA-3-8B, batch 64 ×
// 2,048: kv16 537 MB (125 µs at 4.3 TB/s), kv4 143 MB (33 µs). A page takes about 430 instructions
// of a warp (kv4: 4,352 bytes, 40 % of the issue slots at that rate); 64 to 190 KB are in flight on
// an SM. More in docs/kernels/attention_cuda.md.
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/prims/access.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/tensor_map.h"
#include "comet/kv/cuda/decode/decode.h"
#include "comet/kv/cuda/decode/decode_attend.cuh"
#include "comet/kv/cuda/decode/step_token.cuh"

namespace comet::kv {
namespace {

constexpr int kPagesNotSplit = 6;       // of a warp: about 3 µs
constexpr int kMaxPagesPerSplit = 128;  // so that one long sequence does not wait for one CTA
constexpr int kPagesOfManyWarps = 4 * kManyWarps;  // beyond, splits are quicker

/// kAppends: the new tokens of `append` have yet to be appended; one split, one pass of heads.
template <typename S, bool kAppends>
__global__ void __launch_bounds__(S::kThreads, S::kCtasPerSm)
    decode_kernel(const __grid_constant__ KernelParams kp,
                  const __grid_constant__ AppendParams append) {
  constexpr int kDim = S::kDim;
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ uint64_t barriers[S::kWarps][S::kStages];
  __shared__ float maxima[S::kWarps][kHeadsPerPass];
  __shared__ float sums[S::kWarps][kHeadsPerPass];
  const DecodeParams& p = kp.p;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int seq = blockIdx.z;
  const int kv_head = blockIdx.y / kp.num_passes;
  const int group = p.num_heads / p.num_kv_heads;
  const int head_in_group = blockIdx.y % kp.num_passes * kHeadsPerPass;
  const int num_heads = min(group - head_in_group, kHeadsPerPass);
  const int first_head = kv_head * group + head_in_group;

  // This CTA's pages. Their first ids are fetched beside the length that says which of them count,
  // both of which the step's kernels find there.
  prims::allow_next_kernel();
  const int first_page = blockIdx.x * kp.pages_per_split;
  const int32_t* table = p.block_tables + seq * p.block_table_stride;
  const int warp_page = first_page + warp + lane * S::kWarps;
  const int32_t page_ids = warp_page < p.block_table_stride ? table[warp_page] : 0;
  const int kv_len = p.kv_lens[seq];
  prepare_ring<S>(kp, barriers[warp]);
  const int num_seq_pages = pages_of(kv_len);
  const int end_page = min(first_page + kp.pages_per_split, num_seq_pages);
  if (first_page >= end_page && blockIdx.x > 0) return;

  PageRing<S> ring{kp,
                   table + first_page + warp,
                   shared + warp * S::kRingBytes,
                   barriers[warp],
                   kv_head,
                   (end_page - first_page - warp + S::kWarps - 1) / S::kWarps,
                   page_ids};
  typename S::Tile::Query query;
  Running<S> run;
  const int last_page = num_seq_pages - 1 - first_page;
  const int first_row = (first_page + warp) * kPageRows;
  if constexpr (kAppends) {
    __shared__ typename StepToken<S>::Shared token_shared;
    ring.start(0, S::kStages);  // the last page without this token's row
    StepToken<S> token(append, token_shared, seq, kv_head, kv_len);
    const int owner = last_page % S::kWarps;
    prims::wait_for_previous_kernel();  // which made q, k and v
    if (warp == owner) {
      token.append();
    } else {
      token.turn_queries(first_head, num_heads, (warp + S::kWarps - owner - 1) % S::kWarps,
                         S::kWarps - 1);
    }
    __syncthreads();
    query.load(lane / 4 < num_heads ? token_shared.queries[lane / 4] : nullptr, lane % 4);
    attend_pages<S>(run, ring, query, first_row, kv_len, [&](uint8_t* page, int i) {
      if (warp != owner || i + 1 < ring.num_pages) return;
      token.put(page, nullptr);
      __syncwarp();
    });
  } else {
    const int num_early = ring.num_early(last_page - warp);
    ring.start(0, num_early);
    prims::wait_for_previous_kernel();  // which made q and wrote the new token's rows
    ring.start(num_early, S::kStages);
    const uint16_t* q_row =
        p.q + (static_cast<int64_t>(seq) * p.num_heads + first_head + lane / 4) * int64_t{kDim};
    query.load(lane / 4 < num_heads ? q_row : nullptr, lane % 4);
    attend_pages<S>(run, ring, query, first_row, kv_len, [](uint8_t*, int) {});
  }

  __syncthreads();  // the rings become the merge area
  MergeArea<S> area{reinterpret_cast<float*>(shared), maxima, sums};
  area.put(run, warp, lane);
  __syncthreads();
  const bool is_split = num_seq_pages > kp.pages_per_split;
  for (int i = threadIdx.x; i < num_heads * (kDim / 2); i += S::kThreads) {
    const int head = i / (kDim / 2);
    const int dim = i % (kDim / 2) * 2;
    const auto merged = area.get(head, dim);
    if (is_split) {
      const int64_t row =
          (static_cast<int64_t>(seq) * p.num_heads + first_head + head) * gridDim.x + blockIdx.x;
      float* partial = p.workspace + row * (kDim + 2);
      *reinterpret_cast<float2*>(partial + 2 + dim) = make_float2(merged.x, merged.y);
      if (dim == 0) *reinterpret_cast<float2*>(partial) = make_float2(merged.max, merged.sum);
    } else {
      uint16_t* out = p.out + seq * p.out_stride + (first_head + head) * kDim + dim;
      *reinterpret_cast<uint32_t*>(out) = quotients(merged.x, merged.y, merged.sum);
    }
  }
}

constexpr int kCombineWarps = 4;

/// Partial sums of a head over its splits, in order; a warp per head of a sequence.
template <int kDim>
__global__ void __launch_bounds__(kCombineWarps * 32)
    combine_kernel(const __grid_constant__ KernelParams kp, int num_splits) {
  const DecodeParams& p = kp.p;
  prims::allow_next_kernel();
  prims::wait_for_previous_kernel();
  const int lane = threadIdx.x % 32;
  const int row = blockIdx.x * kCombineWarps + threadIdx.x / 32;  // sequence · heads + head
  if (row >= p.num_seqs * p.num_heads) return;
  const int seq = row / p.num_heads;
  const int num_active = (pages_of(p.kv_lens[seq]) + kp.pages_per_split - 1) / kp.pages_per_split;
  if (num_active <= 1) return;
  const float* partial = p.workspace + static_cast<int64_t>(row) * num_splits * (kDim + 2);
  float max = -INFINITY;
  for (int i = lane; i < num_active; i += 32) max = fmaxf(max, partial[i * (kDim + 2)]);
#pragma unroll
  for (int stride = 16; stride > 0; stride /= 2) {
    max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, stride));
  }
  float2 x[kDim / 64] = {};
  float sum = 0.0F;
#pragma unroll 4
  for (int i = 0; i < num_active; ++i) {
    const float* split = partial + i * (kDim + 2);
    const float2 head = *reinterpret_cast<const float2*>(split);
    const float weight = prims::exp2_approx(head.x - max);
    sum = fmaf(weight, head.y, sum);
#pragma unroll
    for (int j = 0; j < kDim / 64; ++j) {
      const float2 part = *reinterpret_cast<const float2*>(split + 2 + 64 * j + 2 * lane);
      x[j].x = fmaf(weight, part.x, x[j].x);
      x[j].y = fmaf(weight, part.y, x[j].y);
    }
  }
#pragma unroll
  for (int j = 0; j < kDim / 64; ++j) {
    uint16_t* out = p.out + seq * p.out_stride + row % p.num_heads * kDim + 64 * j + 2 * lane;
    *reinterpret_cast<uint32_t*>(out) = quotients(x[j].x, x[j].y, sum);
  }
}

int passes_of(const DecodeParams& params) {
  return (params.num_heads / params.num_kv_heads + kHeadsPerPass - 1) / kHeadsPerPass;
}

template <class S>
KernelParams kernel_params(const DecodeParams& params, const DecodePlan& plan) {
  constexpr double kLog2E = 1.4426950408889634074;
  constexpr double kRootDim = S::kDim == 64 ? 8.0 : 11.313708498984760390;
  KernelParams kp{params, plan.pages_per_split, passes_of(params),
                  static_cast<float>(kLog2E / kRootDim)};
  if (params.bulk_copies) kp.page_map = make_block_map(params.pages, S::Map::kHeadBytes);
  return kp;
}

template <class S, bool kAppends>
void launch_kernel(const KernelParams& kp, const AppendParams& append, int num_splits,
                   cudaStream_t stream) {
  auto* kernel = decode_kernel<S, kAppends>;
  COMET_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kSharedBytes));
  const dim3 grid(static_cast<unsigned>(num_splits),
                  static_cast<unsigned>(kp.p.num_kv_heads * kp.num_passes),
                  static_cast<unsigned>(kp.p.num_seqs));
  launch_overlapped(LaunchShape{grid, S::kThreads, S::kSharedBytes, stream, kp.p.overlaps}, kernel,
                    kp, append);
}

template <class S>
void launch(const DecodeParams& params, const DecodePlan& plan, cudaStream_t stream) {
  const KernelParams kp = kernel_params<S>(params, plan);
  launch_kernel<S, false>(kp, {}, plan.num_splits, stream);
  if (plan.num_splits == 1) return;
  const int num_rows = params.num_seqs * params.num_heads;
  const dim3 num_ctas(static_cast<unsigned>((num_rows + kCombineWarps - 1) / kCombineWarps));
  launch_overlapped(LaunchShape{num_ctas, kCombineWarps * 32, 0, stream, params.overlaps},
                    combine_kernel<S::kDim>, kp, plan.num_splits);
}

template <int kDim>
void launch_append_of(const AppendParams& append, const DecodeParams& params,
                      const DecodePlan& plan, cudaStream_t stream) {
  using S = Shape<PageFormat::kKv4, kDim, true>;
  launch_kernel<S, true>(kernel_params<S>(params, plan), append, 1, stream);
}

struct Occupancy {
  int ctas_per_sm;
  int warps;
};

template <int kDim>
Occupancy occupancy_of(PageFormat format) {
  const auto of = [](auto shape) {
    using S = decltype(shape);
    return Occupancy{S::kCtasPerSm, S::kWarps};
  };
  if (format == PageFormat::kKv16) return of(Shape<PageFormat::kKv16, kDim>());
  if (format == PageFormat::kKv8) return of(Shape<PageFormat::kKv8, kDim>());
  return of(Shape<PageFormat::kKv4, kDim>());
}

template <int kDim>
void launch_of(const DecodeParams& params, const DecodePlan& plan, PageFormat format,
               cudaStream_t stream) {
  const auto run = [&](auto shape) { launch<decltype(shape)>(params, plan, stream); };
  if (format == PageFormat::kKv16) return run(Shape<PageFormat::kKv16, kDim>());
  if (format == PageFormat::kKv8) return run(Shape<PageFormat::kKv8, kDim>());
  if (plan.many_warps) return run(Shape<PageFormat::kKv4, kDim, true>());
  return run(Shape<PageFormat::kKv4, kDim>());
}

}  // namespace

DecodePlan decode_plan(const DecodeParams& params, PageFormat format, int head_dim,
                       int64_t max_kv_len, int num_sms) {
  const Occupancy occupancy = head_dim == 64 ? occupancy_of<64>(format) : occupancy_of<128>(format);
  const int num_units = params.num_seqs * params.num_kv_heads * passes_of(params);
  const int num_slots = num_sms * occupancy.ctas_per_sm;
  const int max_pages = static_cast<int>((max_kv_len + kPageRows - 1) / kPageRows);
  if (num_units == 0 || max_pages == 0) return {};
  // Few CTAs: more pages side by side, as one takes a warp most of a µs, alone or not.
  if (params.bulk_copies && format == PageFormat::kKv4 && 2 * num_units <= num_sms &&
      max_pages <= kPagesOfManyWarps) {
    return {1, max_pages, 0, true, passes_of(params) == 1};
  }
  // As many CTAs as fit at once, each with at least two pages a warp; one CTA where its warps are
  // done sooner than a second kernel would be.
  const int most_splits = max_pages <= kPagesNotSplit * occupancy.warps
                              ? 1
                              : (max_pages + 2 * occupancy.warps - 1) / (2 * occupancy.warps);
  int num_splits = num_slots / num_units;
  if (num_splits > most_splits) num_splits = most_splits;
  if (num_splits < 1) num_splits = 1;
  DecodePlan plan;
  plan.pages_per_split = (max_pages + num_splits - 1) / num_splits;
  if (plan.pages_per_split > kMaxPagesPerSplit) plan.pages_per_split = kMaxPagesPerSplit;
  plan.num_splits = (max_pages + plan.pages_per_split - 1) / plan.pages_per_split;
  if (plan.num_splits > 1) {
    plan.workspace_floats =
        int64_t{params.num_seqs} * params.num_heads * plan.num_splits * (head_dim + 2);
  }
  return plan;
}

cudaError_t launch_decode(const DecodeParams& params, const DecodePlan& plan, PageFormat format,
                          int head_dim, cudaStream_t stream) {
  if (params.num_seqs == 0) return cudaSuccess;
  if (head_dim != 64 && head_dim != 128) return cudaErrorInvalidValue;
  if (head_dim == 64) launch_of<64>(params, plan, format, stream);
  if (head_dim == 128) launch_of<128>(params, plan, format, stream);
  return cudaSuccess;
}

cudaError_t launch_append_decode(const AppendParams& append, const DecodeParams& params,
                                 const DecodePlan& plan, int head_dim, cudaStream_t stream) {
  if (params.num_seqs == 0) return cudaSuccess;
  if (!plan.can_append || (head_dim != 64 && head_dim != 128)) return cudaErrorInvalidValue;
  if (head_dim == 64) launch_append_of<64>(append, params, plan, stream);
  if (head_dim == 128) launch_append_of<128>(append, params, plan, stream);
  return cudaSuccess;
}

}  // namespace comet::kv
