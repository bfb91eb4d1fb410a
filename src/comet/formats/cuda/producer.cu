// Producers: rows of a linear's input in one pass over memory.
//
//   source (producer.h)  →  FP32 row  →  sink: BF16 | codes, one scale a row | w4ax codes
//
// Grid: one CTA per row, 64 to 1,024 threads, chunks of 8 channels a thread and step.
// Stages: read (kNorm: residual, Σx²) into shared memory; [w4ax: gather, rotate;] absmax; code.
// A row that shared memory cannot hold (more than about 57,000 channels on sm_90) is read or made
// once more per stage instead.
// Numerics: codes of given FP32 rows are the CPU's bit for bit. x · weight · factor of kNorm is
// rounded in this order (the CPU: x · factor · weight); sums in another order, so that codes after
// a norm may differ by 1 now and then.
// Bytes: source once + sink once, e.g. norm + w4ax of k channels: 4k + 2k in, 4k + k out; at
// 4.3 TB/s 1,024 rows of 4,096 take 10.7 µs. One row is latency: about 4 µs.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <type_traits>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/cp_async.cuh"
#include "comet/formats/cuda/producer.cuh"
#include "comet/formats/cuda/producer_cluster.h"
#include "comet/formats/cuda/producer_ring.h"
#include "comet/ops/cuda/vectors.cuh"

namespace comet::formats::cuda {
namespace {

template <SourceKind kSource>
__device__ void write_row(const RowValues<kSource>& values, const Bf16Sink& sink,
                          const RowPlan& plan, float* /*shared*/, BlockScratch& /*scratch*/) {
  auto* out = static_cast<__nv_bfloat16*>(sink.out) + blockIdx.x * sink.stride;
  const int k = values.row.num_channels();
  for (int chunk = threadIdx.x; chunk < plan.num_chunks; chunk += blockDim.x) {
    const int begin = chunk * kChunk;
    float v[kChunk];
    values.chunk(begin, v);
    if (plan.is_aligned) {
      __nv_bfloat162 pairs[kChunk / 2];
#pragma unroll
      for (int i = 0; i < kChunk / 2; ++i) {
        pairs[i] = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
      }
      *reinterpret_cast<uint4*>(out + begin) = *reinterpret_cast<const uint4*>(pairs);
    } else {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        if (begin + i < k) out[begin + i] = __float2bfloat16_rn(v[i]);
      }
    }
  }
}

/// One scale a row.
template <SourceKind kSource, class Sink>
  requires(Sink::kLimit > 0)
__device__ void write_row(const RowValues<kSource>& values, const Sink& sink, const RowPlan& plan,
                          float* /*shared*/, BlockScratch& scratch) {
  Tops tops = {0, 0};
  for (int chunk = threadIdx.x; chunk < plan.num_chunks; chunk += blockDim.x) {
    float v[kChunk];
    values.chunk(chunk * kChunk, v);
    tops[0] = max(tops[0], absmax_bits(v));
  }
  block_max(tops, scratch);
  const RowCoder<Sink> coder(sink, tops);
  if (threadIdx.x == 0) coder.store_scales(sink, blockIdx.x);
  auto* codes = static_cast<uint8_t*>(sink.codes) + blockIdx.x * sink.k_padded;
  for (int chunk = threadIdx.x; chunk < plan.num_chunks; chunk += blockDim.x) {
    const int begin = chunk * kChunk;
    float v[kChunk];
    values.chunk(begin, v);
    const uint2 packed = coder.codes(v, true);
    if (plan.is_aligned) {
      *reinterpret_cast<uint2*>(codes + begin) = packed;
    } else {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        const uint32_t word = i < 4 ? packed.x : packed.y;
        if (begin + i < static_cast<int>(sink.k_padded))
          codes[begin + i] = static_cast<uint8_t>(word >> i % 4 * 8);
      }
    }
  }
}

/// One chunk in stored order: gathered, rotated where its block is.
template <SourceKind kSource>
__device__ __forceinline__ void stored_chunk(const RowValues<kSource>& values,
                                             const BlockSink& sink, int chunk, bool is_valid,
                                             float (&v)[kChunk]) {
  const int begin = chunk * kChunk;
#pragma unroll
  for (int i = 0; i < kChunk; ++i) v[i] = 0.0F;
  if (is_valid && sink.perm != nullptr) {
    int32_t from[kChunk];
    load_perm(sink.perm, begin, from);
    values.gather(from, v);
  }
  if (is_valid && sink.perm == nullptr) values.chunk(begin, v);
  if (sink.scale != BlockScale::kSegmentRotated) return;
  rotate_where(chunk < static_cast<int>(sink.int4_blocks) * kBlockLanes, v);
}

/// S1: a scale per block, which 16 lanes hold.
template <SourceKind kSource>
__device__ void write_blocks(const RowValues<kSource>& values, const BlockSink& sink,
                             const RowPlan& plan) {
  int8_t* codes = sink.codes + blockIdx.x * sink.blocks * 128;
  float* scales = sink.scales + blockIdx.x * sink.blocks;
  const int lane = threadIdx.x % 32;
  for (int first = threadIdx.x - lane; first < plan.num_chunks; first += blockDim.x) {
    const int chunk = first + lane;
    const bool is_valid = chunk < plan.num_chunks;
    float v[kChunk];
    stored_chunk(values, sink, chunk, is_valid, v);
    uint32_t top = absmax_bits(v);
#pragma unroll
    for (int mask = kBlockLanes / 2; mask > 0; mask /= 2) {
      top = max(top, __shfl_xor_sync(kAllLanes, top, mask));
    }
    if (!is_valid) continue;
    const int block = chunk / kBlockLanes;
    const bool is_int4 = block < sink.int4_blocks;
    const float limit = is_int4 ? 7.0F : 127.0F;
    const SpanScale span = span_scale(top, limit, is_int4 ? sink.clip : 1.0F);
    if (chunk % kBlockLanes == 0) scales[block] = span.scale;
    *reinterpret_cast<uint2*>(codes + chunk * kChunk) = encode<false>(v, span, limit, false);
  }
}

/// S2, S2h: a scale per segment.
template <SourceKind kSource>
__device__ void write_row(const RowValues<kSource>& values, const BlockSink& sink,
                          const RowPlan& plan, float* shared, BlockScratch& scratch) {
  if (sink.scale == BlockScale::kBlock) {
    write_blocks(values, sink, plan);
    return;
  }
  const int int4_chunks = border_of(sink);
  float* staged = plan.staged_floats < 0 ? nullptr : shared + plan.staged_floats;
  const int lane = threadIdx.x % 32;
  Tops tops = {0, 0};
  for (int first = threadIdx.x - lane; first < plan.num_chunks; first += blockDim.x) {
    const int chunk = first + lane;
    const bool is_valid = chunk < plan.num_chunks;
    float v[kChunk];
    stored_chunk(values, sink, chunk, is_valid, v);
    if (is_valid && staged != nullptr) store_floats(staged + chunk * kChunk, v);
    add_top(v, chunk < int4_chunks, tops);
  }
  block_max(tops, scratch);
  const RowCoder<BlockSink> coder(sink, tops);
  if (threadIdx.x == 0) coder.store_scales(sink, blockIdx.x);
  int8_t* codes = sink.codes + blockIdx.x * sink.blocks * 128;
  for (int first = threadIdx.x - lane; first < plan.num_chunks; first += blockDim.x) {
    const int chunk = first + lane;
    const bool is_valid = chunk < plan.num_chunks;
    float v[kChunk];
    if (staged == nullptr) {
      stored_chunk(values, sink, chunk, is_valid, v);
    } else if (is_valid) {
      load_floats(staged + chunk * kChunk, v);
    }
    if (!is_valid) continue;
    *reinterpret_cast<uint2*>(codes + chunk * kChunk) = coder.codes(v, chunk < int4_chunks);
  }
}

/// Eight words a chunk, each read by the thread that copies it, so that no barrier is needed.
__device__ __forceinline__ void copy_chunks(float* shared, const void* global, int num_chunks) {
  const auto* words = static_cast<const float*>(global);
  for (int begin = threadIdx.x * kChunk; begin < num_chunks * kChunk;
       begin += blockDim.x * kChunk) {
    prims::cp_async_16(shared + begin, words + begin);
    prims::cp_async_16(shared + begin + 4, words + begin + 4);
  }
}

/// What no kernel writes: a norm's weights, a permutation. Their copies, from memory as a rule, are
/// under way while the kernel before ends; source and sink then point to them.
template <SourceKind kSource, class Sink>
__device__ __forceinline__ void fetch_constants(RowSource& source, Sink& sink, const RowPlan& plan,
                                                float* shared) {
  float* at = shared + plan.constant_floats;
  if constexpr (kSource == SourceKind::kNorm) {
    const int num_chunks = static_cast<int>(source.k) / kChunk;
    copy_chunks(at, source.weight, num_chunks);
    source.weight = at;
    at += num_chunks * kChunk;
  }
  if constexpr (std::is_same_v<Sink, BlockSink>) {
    if (sink.perm != nullptr) {
      copy_chunks(at, sink.perm, plan.num_chunks);
      sink.perm = reinterpret_cast<const int32_t*>(at);
    }
  }
  prims::cp_async_commit();
}

template <SourceKind kSource, class Sink>
__global__ void __launch_bounds__(kMaxThreads, 1)
    produce_kernel(const RowSource from, const Sink to, const RowPlan plan) {
  extern __shared__ __align__(16) float shared[];
  __shared__ BlockScratch scratch;
  prims::allow_next_kernel();  // a product, which loads weights until this kernel ends
  RowSource source = from;
  Sink sink = to;
  if (plan.constant_floats >= 0) fetch_constants<kSource>(source, sink, plan, shared);
  prims::wait_for_previous_kernel();  // which made the rows, or still reads what is written here
  prims::cp_async_wait<0>();
  const SourceRow<kSource> row{source, static_cast<int64_t>(blockIdx.x), plan.is_aligned};
  RowValues<kSource> values{row, plan.in_shared ? shared : nullptr, 1.0F};
  if constexpr (kSource == SourceKind::kNorm) {
    float sum = 0.0F;
    for (int begin = threadIdx.x * kChunk; begin < row.num_channels();
         begin += blockDim.x * kChunk) {
      float v[kChunk];
      sum += row.residual_chunk(begin, residual_row(source, row.row_idx), v);
      if (plan.in_shared) store_floats(shared + begin, v);
    }
    sum = ops_cuda::block_sum(sum, scratch.sums);  // and the row is complete for every thread
    values.factor = norm_factor(source, sum);
  } else if (plan.in_shared) {
    for (int begin = threadIdx.x * kChunk; begin < row.num_channels();
         begin += blockDim.x * kChunk) {
      float v[kChunk];
      row.chunk(begin, v);
      store_floats(shared + begin, v);
    }
    __syncthreads();
  }
  write_row(values, sink, plan, shared, scratch);
}

// ---- Host

int64_t shared_memory_limit() {
  constexpr int64_t kScratchBytes = 1024;  // BlockScratch and what the system keeps
  return device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - kScratchBytes;
}

/// Places of a norm's weights and of `perm_floats` of a permutation behind the row's values, where
/// there are any, chunks are whole, and a CTA stays small enough for a product's to start beside
/// it.
void place_constants(const RowSource& source, int64_t perm_floats, RowPlan& plan,
                     int64_t& shared_floats) {
  constexpr int64_t kMostFloats = 128 * 1024 / sizeof(float);
  constexpr int64_t kMostRows = 256;
  const int64_t weights = source.kind == SourceKind::kNorm ? source.k : 0;
  const int64_t floats = weights + perm_floats;
  if (source.rows > kMostRows || floats == 0 || !plan.is_aligned ||
      shared_floats + floats > kMostFloats) {
    return;
  }
  plan.constant_floats = static_cast<int>(shared_floats);
  shared_floats += floats;
}

template <SourceKind kSource, class Sink>
void launch(const RowSource& source, const Sink& sink, const RowPlan& plan, int64_t shared_floats,
            cudaStream_t stream) {
  constexpr int64_t kDefaultLimitBytes = 48 * 1024 - int64_t{sizeof(BlockScratch)};
  auto* kernel = produce_kernel<kSource, Sink>;
  const int64_t bytes = shared_floats * int64_t{sizeof(float)};
  if (bytes > kDefaultLimitBytes) {
    COMET_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(bytes)));
  }
  // As few steps as possible, with equal shares.
  const int64_t num_steps = (plan.num_chunks + kMaxThreads - 1) / kMaxThreads;
  const int64_t share = (plan.num_chunks + num_steps - 1) / num_steps;
  const int64_t num_threads = std::max<int64_t>((share + 31) / 32 * 32, 64);
  launch_overlapped({dim3(static_cast<unsigned>(source.rows)), static_cast<int>(num_threads),
                     static_cast<int>(bytes), stream},
                    kernel, source, sink, plan);
}

template <class Sink>
void launch_source(const RowSource& source, const Sink& sink, const RowPlan& plan,
                   int64_t shared_floats, cudaStream_t stream) {
  switch (source.kind) {
    case SourceKind::kRows:
      return launch<SourceKind::kRows>(source, sink, plan, shared_floats, stream);
    case SourceKind::kNorm:
      return launch<SourceKind::kNorm>(source, sink, plan, shared_floats, stream);
    case SourceKind::kSiluMul:
      return launch<SourceKind::kSiluMul>(source, sink, plan, shared_floats, stream);
  }
}

template <class Sink>
void produce_codes(const RowSource& source, const Sink& sink, cudaStream_t stream) {
  if (source.rows == 0 || produce_by_rings(source, sink, stream)) return;
  RowPlan plan;
  plan.num_chunks = static_cast<int>((sink.k_padded + kChunk - 1) / kChunk);
  plan.is_aligned = chunks_are_aligned(source) && is_multiple(sink.k_padded, kChunk) &&
                    is_aligned_to(sink.codes, kChunk);
  const int64_t row_floats = (source.k + kChunk - 1) / kChunk * kChunk;
  plan.in_shared = row_floats * int64_t{sizeof(float)} <= shared_memory_limit();
  int64_t shared_floats = plan.in_shared ? row_floats : 0;
  place_constants(source, 0, plan, shared_floats);
  launch_source(source, sink, plan, shared_floats, stream);
}

}  // namespace

void produce_bf16(const RowSource& source, const Bf16Sink& sink, CUstream_st* stream) {
  if (source.rows == 0) return;
  RowPlan plan;
  plan.num_chunks = static_cast<int>((source.k + kChunk - 1) / kChunk);
  plan.is_aligned =
      chunks_are_aligned(source) && is_multiple(sink.stride, kChunk) && is_aligned_to(sink.out, 16);
  // Only a norm looks at a value twice.
  const int64_t row_floats = int64_t{plan.num_chunks} * kChunk;
  plan.in_shared = source.kind == SourceKind::kNorm &&
                   row_floats * int64_t{sizeof(float)} <= shared_memory_limit();
  int64_t shared_floats = plan.in_shared ? row_floats : 0;
  place_constants(source, 0, plan, shared_floats);
  launch_source(source, sink, plan, shared_floats, stream);
}

void produce_e4m3(const RowSource& source, const CodeSink& sink, CUstream_st* stream) {
  produce_codes(source, E4m3Sink{sink}, stream);
}

void produce_int8(const RowSource& source, const CodeSink& sink, CUstream_st* stream) {
  produce_codes(source, Int8Sink{sink}, stream);
}

void produce_w4ax(const RowSource& source, const BlockSink& sink, CUstream_st* stream) {
  if (source.rows == 0 || produce_w4ax_by_clusters(source, sink, stream) ||
      produce_by_rings(source, sink, stream)) {
    return;
  }
  RowPlan plan;
  plan.num_chunks = static_cast<int>(sink.blocks) * kBlockLanes;
  plan.is_aligned = chunks_are_aligned(source);
  const int64_t limit_floats = shared_memory_limit() / int64_t{sizeof(float)};
  const int64_t row_floats = sink.blocks * 128;
  plan.in_shared = row_floats <= limit_floats;
  int64_t shared_floats = plan.in_shared ? row_floats : 0;
  if (plan.in_shared && sink.perm == nullptr) {
    plan.staged_floats = 0;  // a thread's chunks are its own in both orders
  } else if (shared_floats + row_floats <= limit_floats) {
    plan.staged_floats = static_cast<int>(shared_floats);
    shared_floats += row_floats;
  }
  place_constants(source, sink.perm == nullptr ? 0 : row_floats, plan, shared_floats);
  launch_source(source, sink, plan, shared_floats, stream);
}

}  // namespace comet::formats::cuda
