// Codes of many rows: source (rows, norm, SiLU·mul) → [gather, rotate] → one scale a row or
// segment.
//
// Operands: as in producer.h; BF16 rows, of a norm FP32 x (updated in place) and BF16 delta.
// Grid: persistent CTAs, as many as an SM holds; CTA c has rows c, c + gridDim.x …; a thread two or
//   four chunks of 8 channels, every row the same, so that its part of the permutation stays in
//   registers and a norm's weights stay in shared memory.
// Stages of a row: it lies in a slot, filled by bulk copies while rows before are worked on; FP32
//   values to registers and, to be gathered, to shared memory (a norm's in place); barrier where
//   there is a gather or a norm; gather, factor, rotation and absmax in registers; barrier; code.
//   No value is read or computed twice.
// Numerics: device functions of producer.cuh, so the bits of the kernel in producer.cu.
// Floor: bytes of source and sink, once. 8,192 rows of silu(gate) · up of 14,336 channels: 587 MB.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <climits>
#include <type_traits>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/overlapped_launch.cuh"
#include "comet/device/cuda/prims/bulk_copy.cuh"
#include "comet/device/cuda/prims/control.cuh"
#include "comet/device/cuda/prims/mbarrier.cuh"
#include "comet/formats/cuda/producer.cuh"
#include "comet/formats/cuda/producer_ring.h"
#include "comet/ops/cuda/vectors.cuh"

namespace comet::formats::cuda {
namespace {

constexpr int kMostSlots = 2;
constexpr int64_t kMaxNormChannels = 8192;  // sums of 32 chunks: one a lane
constexpr int kGapBytes = 16;               // holds the 0 behind FP32 values that are gathered

/// Chunks of a thread. With four of a long row two rows share an SM; a short one would have too few
/// threads, and places of four to gather from do not fit in registers.
template <SourceKind kSource, bool kGathers>
constexpr int kThreadChunksOf = kSource == SourceKind::kSiluMul && !kGathers ? 4 : 2;

/// Threads of an SM: with 72 registers each, or 64.
template <SourceKind kSource, bool kGathers>
constexpr int kMostThreadsOf =
    kThreadChunksOf<kSource, kGathers> == 4 || (kSource == SourceKind::kNorm && kGathers) ? 896
                                                                                          : 1024;

/// Rows from which on it is quicker than a CTA a row.
template <SourceKind kSource, bool kGathers>
constexpr int64_t kMinRowsOf = kSource != SourceKind::kSiluMul ? 1024
                               : kGathers                      ? 17
                                                               : 128;

/// Places and sizes in shared memory, in bytes; −1: not there.
struct RingPlan {
  int num_chunks = 0;    // of the sink's row
  int first_bytes = 0;   // of a row of source.x
  int second_bytes = 0;  // of a row of source.other; 0: there is none
  int second_at = 0;     // in a slot
  int slot_bytes = 0;
  int num_slots = 0;
  int values_at = -1;  // FP32 values to be gathered, where they are not written over the slot's
  int weights_at = -1;
  int shared_bytes = 0;  // all of it
};

struct RingScratch {
  BlockScratch block[2];  // of rows in turn, so that a row's last reads need no barrier
  uint64_t full[kMostSlots];
};

/// Eight places of a permutation; what is nowhere comes from behind the row's k values.
struct PackedPerm {
  uint32_t pairs[kChunk / 2];

  __device__ __forceinline__ void set(const int32_t (&from)[kChunk], int k) {
    const auto place = [&](int32_t channel) {
      return static_cast<uint32_t>(channel >= 0 ? channel : k);
    };
#pragma unroll
    for (int i = 0; i < kChunk / 2; ++i)
      pairs[i] = place(from[2 * i]) | place(from[2 * i + 1]) << 16;
  }

  __device__ __forceinline__ void gather(const float* values, float (&v)[kChunk]) const {
#pragma unroll
    for (int i = 0; i < kChunk / 2; ++i) {
      v[2 * i] = values[pairs[i] & 0xFFFFU];
      v[2 * i + 1] = values[pairs[i] >> 16];
    }
  }
};

/// Slots of rows, two but of long norms, which rows take in turn.
template <SourceKind kSource>
struct Ring {
  const RowSource& source;
  const RingPlan& plan;
  uint8_t* shared;
  uint64_t* full;
  int turn = 0;  // of this CTA's rows

  [[nodiscard]] __device__ __forceinline__ int num_slots() const {
    return kSource == SourceKind::kNorm ? plan.num_slots : kMostSlots;
  }
  [[nodiscard]] __device__ __forceinline__ int slot() const { return turn & (num_slots() - 1); }

  __device__ __forceinline__ void wait() const {
    prims::mbarrier_wait(full + slot(), static_cast<uint32_t>(turn >> (num_slots() - 1) & 1));
  }

  /// The row that is `turns` of this CTA's behind row_idx, into this slot. Every thread calls.
  __device__ __forceinline__ void fill(int row_idx, int turns) const {
    const int row = row_idx + turns * static_cast<int>(gridDim.x);
    if (row >= static_cast<int>(source.rows) || threadIdx.x >= 32 || !prims::elect_one()) return;
    const auto first = static_cast<uint32_t>(plan.first_bytes);
    const auto second = static_cast<uint32_t>(plan.second_bytes);
    uint8_t* to = shared + slot() * plan.slot_bytes;
    prims::mbarrier_arrive_expect_tx(full + slot(), first + second);
    prims::bulk_load(to, row_of(source.x, row), first, full + slot());
    if (second == 0) return;
    prims::bulk_load(to + plan.second_at, row_of(source.other, row), second, full + slot());
  }

  /// The source of the row that lies in this slot.
  [[nodiscard]] __device__ __forceinline__ RowSource source_here() const {
    uint8_t* at = shared + slot() * plan.slot_bytes;
    RowSource here = source;
    here.x = {at, 0, kSource == SourceKind::kNorm ? FloatType::kF32 : FloatType::kBf16};
    here.other = {plan.second_bytes > 0 ? at + plan.second_at : nullptr, 0, FloatType::kBf16};
    if constexpr (kSource == SourceKind::kNorm) {
      here.weight = reinterpret_cast<const float*>(shared + plan.weights_at);
    }
    return here;
  }

 private:
  __device__ static const void* row_of(const FloatRows& rows, int64_t row) {
    const int64_t element_bytes = rows.type == FloatType::kF32 ? 4 : 2;
    return static_cast<const uint8_t*>(rows.data) + row * rows.stride * element_bytes;
  }
};

template <SourceKind kSource, class Sink, bool kGathers>
__global__ void __launch_bounds__(kMostThreadsOf<kSource, kGathers>, 1)
    ring_kernel(const RowSource source, const Sink sink, const RingPlan plan) {
  constexpr int kThreadChunks = kThreadChunksOf<kSource, kGathers>;
  constexpr bool kIsNorm = kSource == SourceKind::kNorm;
  constexpr bool kIsInPlace = kIsNorm && kGathers;  // gathered values lie in the slot
  constexpr bool kHasMiddle = kIsNorm || kGathers;  // a barrier between reading and absmax
  constexpr bool kGivesEarly = kHasMiddle && !kIsInPlace;
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ RingScratch scratch;
  prims::allow_next_kernel();
  const int k = static_cast<int>(source.k);
  const auto chunk_of = [](int j) { return static_cast<int>(threadIdx.x + j * blockDim.x); };
  Ring<kSource> ring{source, plan, shared, scratch.full};
  const auto values_here = [&] {
    return reinterpret_cast<float*>(shared +
                                    (kIsInPlace ? ring.slot() * plan.slot_bytes : plan.values_at));
  };

  // What no kernel writes, before the one ahead has ended.
  PackedPerm from[kThreadChunks];
  if constexpr (kGathers) {
#pragma unroll
    for (int j = 0; j < kThreadChunks; ++j) {
      int32_t channels[kChunk] = {-1, -1, -1, -1, -1, -1, -1, -1};
      if (chunk_of(j) < plan.num_chunks) load_perm(sink.perm, chunk_of(j) * kChunk, channels);
      from[j].set(channels, k);
    }
  }
  if constexpr (kIsNorm) {
    auto* weights = reinterpret_cast<float*>(shared + plan.weights_at);
    for (int i = static_cast<int>(threadIdx.x); i < k; i += static_cast<int>(blockDim.x)) {
      weights[i] = source.weight[i];
    }
  }
  if (threadIdx.x < 32 && prims::elect_one()) {
    for (uint64_t& full : scratch.full) prims::mbarrier_init(&full, 1);
    prims::mbarrier_init_fence();
  }
  __syncthreads();
  prims::wait_for_previous_kernel();
  for (int i = 0; i < ring.num_slots(); ++i, ++ring.turn) {
    if (kGathers && threadIdx.x == 0) values_here()[k] = 0.0F;
    ring.fill(blockIdx.x, i);
  }
  ring.turn = 0;

  const int border = border_of(sink);
  const int num_rows = static_cast<int>(source.rows);
  for (int row_idx = blockIdx.x; row_idx < num_rows; row_idx += gridDim.x, ++ring.turn) {
    BlockScratch& block = scratch.block[ring.turn % 2];
    const auto give_slot = [&] {  // to a later row, when all have read this one
      prims::fence_proxy_async();
      __syncthreads();
      ring.fill(row_idx, ring.num_slots());
    };
    float* values = values_here();
    const RowSource here = ring.source_here();
    const SourceRow<kSource> row{here, 0, true};
    ring.wait();

    float v[kThreadChunks][kChunk];
#pragma unroll
    for (int j = 0; j < kThreadChunks; ++j) {
      const int begin = chunk_of(j) * kChunk;
      if constexpr (kIsNorm) {
        float sum = row.residual_chunk(begin, residual_row(source, row_idx), v[j]);
        sum = ops_cuda::warp_sum(sum);
        if (threadIdx.x % 32 == 0 && begin < k) block.sums[chunk_of(j) / 32] = sum;
      } else {
        row.chunk(begin, v[j]);
      }
      if (kGathers && begin < k) store_floats(values + begin, v[j]);
    }
    float factor = 1.0F;
    if constexpr (kGivesEarly) {
      give_slot();
    } else if constexpr (kHasMiddle) {
      __syncthreads();
    }
    if constexpr (kIsNorm) {
      const auto lane = static_cast<int>(threadIdx.x % 32);
      const float sum = lane * 32 * kChunk < k ? block.sums[lane] : 0.0F;
      factor = norm_factor(source, ops_cuda::warp_sum(sum));
    }

    Tops tops = {0, 0};
#pragma unroll
    for (int j = 0; j < kThreadChunks; ++j) {
      const bool is_low = chunk_of(j) < border;
      if constexpr (kGathers) from[j].gather(values, v[j]);
      if constexpr (kIsNorm) {
#pragma unroll
        for (int i = 0; i < kChunk; ++i) v[j][i] *= factor;
      }
      if constexpr (std::is_same_v<Sink, BlockSink>) {
        if (sink.scale == BlockScale::kSegmentRotated) rotate_where(is_low, v[j]);
      }
      if (chunk_of(j) < plan.num_chunks) add_top(v[j], is_low, tops);
    }
    write_tops(tops, block);
    if constexpr (kGivesEarly) {
      __syncthreads();
    } else {
      give_slot();
    }
    read_tops(tops, block);

    const RowCoder<Sink> coder(sink, tops);
    if (threadIdx.x == 0) coder.store_scales(sink, row_idx);
    auto* codes = reinterpret_cast<uint2*>(sink.codes) + int64_t{row_idx} * plan.num_chunks;
#pragma unroll
    for (int j = 0; j < kThreadChunks; ++j) {
      if (chunk_of(j) >= plan.num_chunks) continue;
      codes[chunk_of(j)] = coder.codes(v[j], chunk_of(j) < border);
    }
  }
}

// ---- Host

int64_t num_chunks_of(const BlockSink& sink) { return sink.blocks * kBlockLanes; }
int64_t num_chunks_of(const CodeSink& sink) { return sink.k_padded / kChunk; }

bool suits(const BlockSink& sink) {
  return sink.scale != BlockScale::kBlock && is_aligned_to(sink.codes, kChunk);
}
bool suits(const CodeSink& sink) {
  return is_multiple(sink.k_padded, kChunk) && is_aligned_to(sink.codes, kChunk);
}

bool suits(const RowSource& source) {
  const bool is_norm = source.kind == SourceKind::kNorm;
  const FloatType type = is_norm ? FloatType::kF32 : FloatType::kBf16;
  return source.rows < INT_MAX / 2 && chunks_are_aligned(source) && source.x.type == type &&
         (source.other.data == nullptr || source.other.type == FloatType::kBf16) &&
         (!is_norm || source.k <= kMaxNormChannels) && runs_sm90_code();
}

RingPlan plan_of(const RowSource& source, int64_t num_chunks, bool is_gathered, int num_slots) {
  const bool is_norm = source.kind == SourceKind::kNorm;
  const int float_bytes = static_cast<int>(source.k) * 4;
  const int gap_bytes = is_gathered ? kGapBytes : 0;
  RingPlan plan;
  plan.num_chunks = static_cast<int>(num_chunks);
  plan.first_bytes = is_norm ? float_bytes : float_bytes / 2;
  plan.second_bytes = source.other.data != nullptr ? float_bytes / 2 : 0;
  plan.second_at = plan.first_bytes + (is_norm ? gap_bytes : 0);
  plan.slot_bytes = (plan.second_at + plan.second_bytes + 127) / 128 * 128;
  plan.num_slots = num_slots;
  plan.shared_bytes = num_slots * plan.slot_bytes;
  if (is_gathered && !is_norm) {
    plan.values_at = plan.shared_bytes;
    plan.shared_bytes += float_bytes + gap_bytes;
  }
  if (is_norm) {
    plan.weights_at = plan.shared_bytes;
    plan.shared_bytes += float_bytes;
  }
  return plan;
}

/// CTAs that an SM has shared memory for.
int64_t num_ctas_of(const RingPlan& plan) {
  constexpr int kOtherBytes = sizeof(RingScratch) + 1024;  // and what the system keeps
  return device_attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor) /
         (plan.shared_bytes + kOtherBytes);
}

/// False, and nothing done, where a row is too long or rows are few.
template <SourceKind kSource, class Sink, bool kGathers>
bool launch(const RowSource& source, const Sink& sink, cudaStream_t stream) {
  constexpr int64_t kThreadChunks = kThreadChunksOf<kSource, kGathers>;
  const int64_t num_chunks = num_chunks_of(sink);
  constexpr int64_t kMostThreads = kMostThreadsOf<kSource, kGathers>;
  if (num_chunks > kThreadChunks * kMostThreads || source.rows < kMinRowsOf<kSource, kGathers>) {
    return false;
  }
  const int64_t share = (num_chunks + kThreadChunks - 1) / kThreadChunks;
  const int64_t num_threads = (share + 31) / 32 * 32;
  const int64_t by_threads = kMostThreads / num_threads;
  RingPlan plan = plan_of(source, num_chunks, kGathers, kMostSlots);
  const bool is_norm = kSource == SourceKind::kNorm;
  if (is_norm && by_threads >= 2 && num_ctas_of(plan) < 2) {  // rather a second CTA
    plan = plan_of(source, num_chunks, kGathers, 1);
  }
  const int64_t most =
      std::min(num_ctas_of(plan), by_threads) * device_attribute(cudaDevAttrMultiProcessorCount);
  const int64_t num_turns = (source.rows + most - 1) / most;
  const int64_t num_ctas = (source.rows + num_turns - 1) / num_turns;
  auto* kernel = ring_kernel<kSource, Sink, kGathers>;
  COMET_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, plan.shared_bytes));
  launch_overlapped({dim3(static_cast<unsigned>(num_ctas)), static_cast<int>(num_threads),
                     plan.shared_bytes, stream},
                    kernel, source, sink, plan);
  return true;
}

template <class Sink, bool kGathers>
bool launch_source(const RowSource& source, const Sink& sink, cudaStream_t stream) {
  switch (source.kind) {
    case SourceKind::kRows:
      return launch<SourceKind::kRows, Sink, kGathers>(source, sink, stream);
    case SourceKind::kNorm:
      return launch<SourceKind::kNorm, Sink, kGathers>(source, sink, stream);
    case SourceKind::kSiluMul:
      return launch<SourceKind::kSiluMul, Sink, kGathers>(source, sink, stream);
  }
  return false;
}

}  // namespace

template <class Sink>
bool produce_by_rings(const RowSource& source, const Sink& sink, CUstream_st* stream) {
  if (!suits(source) || !suits(sink)) return false;
  if constexpr (std::is_same_v<Sink, BlockSink>) {
    if (sink.perm != nullptr) return launch_source<Sink, true>(source, sink, stream);
  }
  return launch_source<Sink, false>(source, sink, stream);
}

template bool produce_by_rings(const RowSource&, const BlockSink&, CUstream_st*);
template bool produce_by_rings(const RowSource&, const Int8Sink&, CUstream_st*);
template bool produce_by_rings(const RowSource&, const E4m3Sink&, CUstream_st*);

}  // namespace comet::formats::cuda
