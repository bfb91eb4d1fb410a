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
#include "comet/device/cuda/prims/access.cuh"
#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/cp_async.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/device/cuda/tensor_map.h"
#include "comet/kv/cuda/decode/decode.h"
#include "comet/kv/cuda/decode/decode_tile.cuh"
#include "comet/kv/cuda/overlapped_launch.cuh"

namespace comet::kv {
namespace {

constexpr uint32_t kAllLanes = 0xFFFFFFFF;
constexpr int kHeadsPerPass = 8;        // the N side of the products
constexpr int kPagesNotSplit = 6;       // of a warp: about 3 µs
constexpr int kMaxPagesPerSplit = 128;  // so that one long sequence does not wait for one CTA

template <PageFormat kFormat, int kDim>
struct Shape {
  using Tile = DecodeTile<kFormat, kDim>;
  using Map = PageMap<kFormat, kDim>;
  static constexpr int kWarps = Map::kHeadBytes >= 16384 ? 2 : 4;
  static constexpr int kStages = 3;
  static constexpr int kCtasPerSm = Map::kHeadBytes >= 8192 ? 2 : 4;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRingBytes = kStages * Map::kHeadBytes;  // of a warp
  static constexpr int kSharedBytes = kWarps * kRingBytes;
  static constexpr int kMergeStride = kDim + 4;  // floats of a head's sums, off by four banks
  static_assert(kWarps * kHeadsPerPass * kMergeStride * 4 <= kSharedBytes);
};

struct KernelParams {
  DecodeParams p;
  int pages_per_split;
  int num_passes;          // of eight heads
  float scale;             // log2 e / √d
  CUtensorMap page_map{};  // of heads' blocks, for bulk_copies
};

/// What copies of the warp's pages need, before there are pages; all lanes.
template <typename S>
__device__ __forceinline__ void prepare_ring(const KernelParams& kp, uint64_t* barriers) {
  if (kp.p.bulk_copies && prims::elect_one()) {
    prims::tensor_map_prefetch(&kp.page_map);
#pragma unroll
    for (int i = 0; i < S::kStages; ++i) prims::mbarrier_init(barriers + i, 1);
    prims::mbarrier_init_fence();
  }
  __syncwarp();
}

/// The pages of one warp: every kWarps-th of the CTA's, through a ring of shared memory.
template <typename S>
struct PageRing {
  using Map = typename S::Map;
  const KernelParams& kp;
  const int32_t* table;  // of this warp's first page
  uint8_t* ring;
  uint64_t* barriers;  // [kStages]
  int kv_head;
  int num_pages;     // of this warp
  int32_t page_ids;  // lane l: of page num_issued / 32 · 32 + l
  int num_issued = 0;
  int issue_stage = 0;
  int wait_stage = 0;
  uint32_t wait_parity = 0;

  __device__ __forceinline__ void start() {
    for (int i = 0; i < S::kStages; ++i) issue();
  }

  /// Starts the next page's copy, if there is one. The stage's last reader is behind a __syncwarp.
  __device__ __forceinline__ void issue() {
    const int lane = threadIdx.x % 32;
    if (num_issued < num_pages) {
      if (num_issued % 32 == 0 && num_issued > 0) {
        const int page = num_issued + lane;
        page_ids = page < num_pages ? table[page * S::kWarps] : 0;
      }
      const int64_t page_id = __shfl_sync(kAllLanes, page_ids, num_issued % 32);
      const int64_t block = page_id * kp.p.num_kv_heads + kv_head;
      uint8_t* target = ring + issue_stage * Map::kHeadBytes;
      if (kp.p.bulk_copies) {
        if (prims::elect_one()) {  // no loop over lanes of the copy, as `lane == 0` would have
          prims::mbarrier_arrive_expect_tx(barriers + issue_stage, Map::kHeadBytes);
          prims::tensor_load_2d(target, &kp.page_map, 0,
                                static_cast<int>(block) * (Map::kHeadBytes / kMapRowBytes),
                                barriers + issue_stage);
        }
      } else {
        const uint8_t* source = kp.p.pages + block * Map::kHeadBytes;
#pragma unroll 4
        for (int byte = lane * 16; byte < Map::kHeadBytes; byte += 512) {
          prims::cp_async_16(target + byte, source + byte);
        }
      }
    }
    if (!kp.p.bulk_copies) prims::cp_async_commit();  // empty groups keep the count
    ++num_issued;
    issue_stage = issue_stage + 1 == S::kStages ? 0 : issue_stage + 1;
  }

  /// The oldest page, once it is there.
  __device__ __forceinline__ const uint8_t* wait() {
    if (kp.p.bulk_copies) {
      prims::mbarrier_wait(barriers + wait_stage, wait_parity);
    } else {
      prims::cp_async_wait<S::kStages - 1>();
    }
    __syncwarp();
    const uint8_t* page = ring + wait_stage * Map::kHeadBytes;
    if (++wait_stage == S::kStages) {
      wait_stage = 0;
      wait_parity ^= 1;
    }
    return page;
  }
};

/// Online softmax of eight heads; e = 0, 1: heads 2·t, 2·t + 1. sum and low are of the lane's rows.
template <typename S>
struct Running {
  float o[S::Tile::kBlocks][4] = {};
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};
  float low[2] = {};  // Σ p · (what a centred code 0 stands for)
};

/// Scores in base 2 of rows < num_rows, −∞ beyond; `params` are 0 there.
template <typename S>
__device__ __forceinline__ void page_scores(float (&s)[2][4], RowParams (&params)[4],
                                            const typename S::Tile::Query& query,
                                            const uint8_t* page, int num_rows, float scale) {
  const int lane = threadIdx.x % 32;
  S::Tile::scores(s, query, page, lane);
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int row = 8 * r + lane / 4;
    const bool is_valid = row < num_rows;
    float key_scale = scale;
    if constexpr (S::Tile::kCoded) {
      params[r] = S::Tile::params(page, row);
      if (!is_valid) params[r] = {0.0F, 0.0F, 0.0F, 0.0F};
      key_scale *= params[r].key_scale;
    }
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      float& x = s[r / 2][r % 2 * 2 + e];
      if constexpr (S::Tile::kCoded) {
        x = fmaf(key_scale, x, params[r].key_low * scale * query.sum[e]);
      } else {
        x *= key_scale;
      }
      if (!is_valid) x = -INFINITY;
    }
  }
}

/// The page's part of the maxima; sums and outputs are brought to it.
template <typename S>
__device__ __forceinline__ void raise_maxima(Running<S>& run, const float (&s)[2][4],
                                             const RowParams (&params)[4]) {
  float high[2] = {-INFINITY, -INFINITY};
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    float shift = 0.0F;
    if constexpr (S::Tile::kCoded) shift = __log2f(fmaxf(params[r].value_scale, 0x1p-24F));
#pragma unroll
    for (int e = 0; e < 2; ++e) high[e] = fmaxf(high[e], s[r / 2][r % 2 * 2 + e] + shift);
  }
#pragma unroll
  for (int e = 0; e < 2; ++e) {
#pragma unroll
    for (int stride = 4; stride < 32; stride *= 2) {
      high[e] = fmaxf(high[e], __shfl_xor_sync(kAllLanes, high[e], stride));
    }
  }
  if (__any_sync(kAllLanes, high[0] > run.max[0] || high[1] > run.max[1])) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float raised = fmaxf(run.max[e], high[e]);
      const float factor = prims::exp2_approx(run.max[e] - raised);
      run.max[e] = raised;
      run.sum[e] *= factor;
      run.low[e] *= factor;
#pragma unroll
      for (int n = 0; n < S::Tile::kBlocks; ++n) {
        run.o[n][e] *= factor;
        run.o[n][2 + e] *= factor;
      }
    }
  }
}

template <typename S>
__device__ __forceinline__ void attend_page(Running<S>& run, const typename S::Tile::Query& query,
                                            const uint8_t* page, int num_rows, float scale) {
  const int lane = threadIdx.x % 32;
  float s[2][4];
  RowParams params[4];
  page_scores<S>(s, params, query, page, num_rows, scale);
  raise_maxima<S>(run, s, params);
  uint32_t p[2][2];
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    float weight[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      weight[e] = prims::exp2_approx(s[r / 2][r % 2 * 2 + e] - run.max[e]);
      run.sum[e] += weight[e];
      if constexpr (S::Tile::kCoded) {
        run.low[e] = fmaf(weight[e], params[r].value_low, run.low[e]);
        weight[e] *= params[r].value_scale;
      }
    }
    p[r / 2][r % 2] = prims::movmatrix_trans(S::Tile::pack(weight[0], weight[1]));
  }
  S::Tile::values(run.o, p, page + S::Map::kPartBytes, lane, num_rows);
}

/// The warps' sums in shared memory, by head.
template <typename S>
struct MergeArea {
  float* sums;  // [warp][head][kMergeStride]
  float (*max)[kHeadsPerPass];
  float (*sum)[kHeadsPerPass];

  __device__ __forceinline__ void put(Running<S>& run, int warp, int lane) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
#pragma unroll
      for (int stride = 4; stride < 32; stride *= 2) {
        run.sum[e] += __shfl_xor_sync(kAllLanes, run.sum[e], stride);
        run.low[e] += __shfl_xor_sync(kAllLanes, run.low[e], stride);
      }
      const int head = lane % 4 * 2 + e;
      float* row = sums + (warp * kHeadsPerPass + head) * S::kMergeStride;
#pragma unroll
      for (int n = 0; n < S::Tile::kBlocks; ++n) {
        row[S::Tile::dim_of(n, 0, lane / 4)] = run.o[n][e] + run.low[e];
        row[S::Tile::dim_of(n, 1, lane / 4)] = run.o[n][2 + e] + run.low[e];
      }
      if (lane < 4) {
        max[warp][head] = run.max[e];
        sum[warp][head] = run.sum[e];
      }
    }
  }

  /// All warps' numerators of two dims of a head, and the head's maximum and denominator.
  struct Merged {
    float x;
    float y;
    float max;
    float sum;
  };
  __device__ __forceinline__ Merged get(int head, int dim) const {
    Merged m = {0.0F, 0.0F, max[0][head], 0.0F};
    for (int w = 1; w < S::kWarps; ++w) m.max = fmaxf(m.max, max[w][head]);
    const float reference = m.max == -INFINITY ? 0.0F : m.max;  // no rows: weights are 0
    for (int w = 0; w < S::kWarps; ++w) {
      const float weight = prims::exp2_approx(max[w][head] - reference);
      const float* row = sums + (w * kHeadsPerPass + head) * S::kMergeStride + dim;
      m.x = fmaf(weight, row[0], m.x);
      m.y = fmaf(weight, row[1], m.y);
      m.sum = fmaf(weight, sum[w][head], m.sum);
    }
    return m;
  }
};

__device__ __forceinline__ int pages_of(int kv_len) { return (kv_len + kPageRows - 1) / kPageRows; }

/// Numerators over their denominator as two BF16; 0 of an empty sequence.
__device__ __forceinline__ uint32_t quotients(float x, float y, float sum) {
  const float inverse = sum == 0.0F ? 0.0F : 1.0F / sum;
  return pack_bf16(x * inverse, y * inverse);
}

template <typename S>
__global__ void __launch_bounds__(S::kThreads, S::kCtasPerSm)
    decode_kernel(const __grid_constant__ KernelParams kp) {
  constexpr int kDim = 16 * S::Tile::kBlocks;
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

  // This CTA's pages. Their first ids are fetched beside the length that says which of them count.
  prims::allow_next_kernel();
  prepare_ring<S>(kp, barriers[warp]);
  prims::wait_for_previous_kernel();
  const int first_page = blockIdx.x * kp.pages_per_split;
  const int32_t* table = p.block_tables + seq * p.block_table_stride;
  const int warp_page = first_page + warp + lane * S::kWarps;
  const int32_t page_ids = warp_page < p.block_table_stride ? table[warp_page] : 0;
  const int kv_len = p.kv_lens[seq];
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
  ring.start();
  typename S::Tile::Query query;
  const uint16_t* q_row =
      p.q + (static_cast<int64_t>(seq) * p.num_heads + first_head + lane / 4) * int64_t{kDim};
  query.load(lane / 4 < num_heads ? q_row : nullptr, lane % 4);

  Running<S> run;
  for (int i = 0; i < ring.num_pages; ++i) {
    const uint8_t* page = ring.wait();
    const int first_row = (first_page + warp + i * S::kWarps) * kPageRows;
    attend_page<S>(run, query, page, kv_len - first_row, kp.scale);
    __syncwarp();
    ring.issue();
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

template <PageFormat kFormat, int kDim>
cudaError_t launch(const DecodeParams& params, const DecodePlan& plan, cudaStream_t stream) {
  using S = Shape<kFormat, kDim>;
  constexpr double kLog2E = 1.4426950408889634074;
  constexpr double kRootDim = kDim == 64 ? 8.0 : 11.313708498984760390;
  KernelParams kp{params, plan.pages_per_split, passes_of(params),
                  static_cast<float>(kLog2E / kRootDim)};
  if (params.bulk_copies) kp.page_map = make_block_map(params.pages, S::Map::kHeadBytes);
  const cudaError_t sized = cudaFuncSetAttribute(
      decode_kernel<S>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kSharedBytes);
  if (sized != cudaSuccess) return sized;
  const dim3 grid(static_cast<unsigned>(plan.num_splits),
                  static_cast<unsigned>(params.num_kv_heads * kp.num_passes),
                  static_cast<unsigned>(params.num_seqs));
  const cudaError_t launched =
      launch_overlapped(LaunchShape{grid, S::kThreads, S::kSharedBytes, stream, params.overlaps},
                        decode_kernel<S>, kp);
  if (launched != cudaSuccess || plan.num_splits == 1) return launched;
  const int num_rows = params.num_seqs * params.num_heads;
  const dim3 num_ctas(static_cast<unsigned>((num_rows + kCombineWarps - 1) / kCombineWarps));
  return launch_overlapped(LaunchShape{num_ctas, kCombineWarps * 32, 0, stream, params.overlaps},
                           combine_kernel<kDim>, kp, plan.num_splits);
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
cudaError_t launch_of(const DecodeParams& params, const DecodePlan& plan, PageFormat format,
                      cudaStream_t stream) {
  if (format == PageFormat::kKv16) return launch<PageFormat::kKv16, kDim>(params, plan, stream);
  if (format == PageFormat::kKv8) return launch<PageFormat::kKv8, kDim>(params, plan, stream);
  return launch<PageFormat::kKv4, kDim>(params, plan, stream);
}

}  // namespace

DecodePlan decode_plan(const DecodeParams& params, PageFormat format, int head_dim,
                       int64_t max_kv_len, int num_sms) {
  const Occupancy occupancy = head_dim == 64 ? occupancy_of<64>(format) : occupancy_of<128>(format);
  const int num_units = params.num_seqs * params.num_kv_heads * passes_of(params);
  const int num_slots = num_sms * occupancy.ctas_per_sm;
  const int max_pages = static_cast<int>((max_kv_len + kPageRows - 1) / kPageRows);
  if (num_units == 0 || max_pages == 0) return {1, 1, 0};
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
  if (head_dim == 64) return launch_of<64>(params, plan, format, stream);
  if (head_dim == 128) return launch_of<128>(params, plan, format, stream);
  return cudaErrorInvalidValue;
}

}  // namespace comet::kv
