// Parts of the kernel of tall tiles (gemm_wgmma_tall.cu): which stages a CTA has, its copies, and
// how tiles that several CTAs multiplied are added up.
//
// The stages of all tiles, one tile after the other, are dealt evenly, the first CTAs having one
// more where they do not come out even. So a CTA ends a tile that another began, has whole ones,
// and begins one. Parts of a tile are joined through global memory: up to three by the CTA that
// begins it; more by all CTAs whose last stages are of it, which divide its tokens. Parts are added
// in the order of channels, so that results do not depend on timing; who adds nothing leaves its
// part and goes on. All CTAs run at once (one on each SM: a plan never has more), so those that
// wait for parts get them.
#pragma once

#include "comet/formats/cuda/fragment_store.cuh"
#include "comet/formats/w4a16/cuda/gemm_wgmma_consumer.cuh"

namespace comet::formats::w4a16_cuda::wgmma {

struct TallParams {
  Params of;           // a split is a CTA
  int32_t num_even;    // stages that every CTA has at least,
  int32_t num_longer;  // and how many CTAs have one more
  float4* parts;       // [CTA][begins or ends its tile][kSums / 4][thread]
  uint32_t* arrivals;  // [CTA]: parts there of the tile that it ends with, 0 between launches
};

/// The first stage of a CTA, and the CTA of a stage.
__device__ __forceinline__ int first_stage(const TallParams& p, int cta) {
  return p.num_even * cta + min(cta, p.num_longer);
}
__device__ __forceinline__ int cta_of(const TallParams& p, int stage) {
  const int num_of_longer = (p.num_even + 1) * p.num_longer;
  if (stage < num_of_longer) return stage / (p.num_even + 1);
  return p.num_longer + (stage - num_of_longer) / p.num_even;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// A stage of all, as its copies need it; steps forward without divisions but at a tile's end.
struct TallStage {
  const TallParams& p;
  int tile;
  int k_block;
  TileIndex at;

  __device__ __forceinline__ TallStage(const TallParams& params, int stage)
      : p(params),
        tile(stage / params.of.args.blocks.num_k_blocks),
        k_block(stage % params.of.args.blocks.num_k_blocks),
        at(tile_of(tile, params.of.num_row_tiles, params.of.num_token_tiles)) {}

  __device__ __forceinline__ void advance() {
    if (++k_block < p.of.args.blocks.num_k_blocks) return;
    k_block = 0;
    at = tile_of(++tile, p.of.num_row_tiles, p.of.num_token_tiles);
  }
};

/// The one thread that issues copies. At the start few stages are asked for, and the next when one
/// has come: 132 SMs that fill their rings at once get their first stage with their last.
template <class T>
struct TallLoader {
  static constexpr int kFirstStages = T::kTokens == 64 ? 2 : 4;
  static_assert(kFirstStages < T::kInputStages);
  const TallParams& p;
  const CUtensorMap* w_map;
  const CUtensorMap* x_map;
  const Shared<T>& shared;
  int begin;
  int end;

  __device__ __forceinline__ void load_weights(int slot, const TallStage& stage) const {
    const Blocks& blocks = p.of.args.blocks;
    const uint64_t policy = p.of.num_token_tiles == 1 ? prims::kEvictFirst : prims::kEvictNormal;
    const int from = stage.at.row_tile * T::kRowBlocks * blocks.num_k_blocks + stage.k_block;
    uint64_t* full = shared.full_weights + slot;
    prims::mbarrier_arrive_expect_tx(full, T::kStageBytes + T::kInputBytes);
#pragma unroll
    for (int b = 0; b < T::kRowBlocks; ++b) {
      prims::tensor_load_2d_hint(
          shared.weights + (slot * T::kRowBlocks + b) * kScaledBlockBytes, w_map, 0,
          (from + b * blocks.num_k_blocks) * (kScaledBlockBytes / kMapRowBytes), full, policy);
    }
  }

  __device__ __forceinline__ void load_inputs(int slot, const TallStage& stage) const {
#pragma unroll
    for (int box = 0; box < 2; ++box) {
      prims::tensor_load_2d_hint(shared.inputs + slot * T::kInputBytes + box * T::kBoxBytes, x_map,
                                 stage.k_block * kBlockChannels + box * kBoxChannels,
                                 stage.at.token_tile * T::kTokens, shared.full_weights + slot,
                                 prims::kEvictLast);
    }
  }

  /// Before the kernel ahead has ended; `stage` is the CTA's first.
  __device__ __forceinline__ void start(TallStage stage) const {
    for (int i = 0; i < min(kFirstStages, end - begin); ++i, stage.advance()) {
      load_weights(i, stage);
    }
  }

  __device__ __forceinline__ void run(TallStage stage) const {
    prims::wait_for_previous_kernel();
    for (int i = 0; i < min(kFirstStages, end - begin); ++i, stage.advance()) {
      load_inputs(i, stage);
    }
    StageIndex to{kFirstStages, 0};
    StageIndex came;
    StageIndex through;
    for (int i = kFirstStages; i < end - begin; ++i, stage.advance()) {
      if (i < T::kInputStages) {
        prims::mbarrier_wait(shared.full_weights + came.stage, came.parity);
        came.advance(1, T::kInputStages);
      } else {
        prims::mbarrier_wait(shared.empty + through.stage, through.parity);
        through.advance(1, T::kInputStages);
      }
      load_weights(to.stage, stage);
      load_inputs(to.stage, stage);
      to.advance(1, T::kInputStages);
    }
    // The stage behind the last, which consumers read ahead and do not multiply.
    const int behind = end - begin;
    if (behind < kFirstStages) to = {behind, 0};
    if (behind >= T::kInputStages) {
      prims::mbarrier_wait(shared.empty + through.stage, through.parity);
    }
    prims::mbarrier_arrive(shared.full_weights + to.stage);
  }
};

/// Where a tile is, and who multiplied it: CTAs first … last, in the order of channels. Few parts
/// are added by the first CTA, whose stages end with this tile; many by all CTAs whose do, which is
/// all but perhaps the last.
struct TallTile {
  static constexpr int kFewParts = 3;
  int first_row;
  int first_token;
  int first;
  int last;
  int num_adders;

  template <class T>
  static __device__ __forceinline__ TallTile of(const TallParams& p, int tile) {
    const int k_blocks = p.of.args.blocks.num_k_blocks;
    const TileIndex at = tile_of(tile, p.of.num_row_tiles, p.of.num_token_tiles);
    TallTile t;
    t.first_row = at.row_tile * T::kRows;
    t.first_token = at.token_tile * T::kTokens;
    t.first = cta_of(p, tile * k_blocks);
    t.last = cta_of(p, (tile + 1) * k_blocks - 1);
    const bool is_end_of_last = first_stage(p, t.last + 1) <= (tile + 1) * k_blocks;
    const int num_parts = t.last - t.first + 1;
    t.num_adders = num_parts <= kFewParts ? 1 : num_parts - (is_end_of_last ? 0 : 1);
    return t;
  }

  /// Keeps the compiler from working this out where it is used, after the products.
  __device__ __forceinline__ void pin() {
    prims::keep(first_row);
    prims::keep(first_token);
    prims::keep(first);
    prims::keep(last);
    prims::keep(num_adders);
  }
};

template <int kCount>
__device__ __forceinline__ void add_bias(const GemmArgs& args, int first_row,
                                         float (&sums)[kCount]) {
  if (args.bias == nullptr) return;
  const int row = first_row + static_cast<int>(threadIdx.x) % 32 / 4;
  const float low = row < args.blocks.n ? args.bias[row] : 0.0F;
  const float high = row + 8 < args.blocks.n ? args.bias[row + 8] : 0.0F;
#pragma unroll
  for (int i = 0; i < kCount; ++i) sums[i] += i % 4 < 2 ? low : high;
}

/// The end of a tile of which this CTA has sums, all or a part.
template <class T>
struct TallEnd {
  static constexpr int kGroups = T::kTokens / 8;
  static constexpr int kAtOnce = 8;  // parts that are under way
  const TallParams& p;
  int cta;

  __device__ __forceinline__ float4* part_of(int of_cta, bool begins) const {
    return p.parts + (of_cta * 2 + (begins ? 1 : 0)) * (kGroups * T::kConsumers) + threadIdx.x;
  }

  __device__ __forceinline__ void leave_part(const float (&totals)[T::kSums], bool begins) const {
    float4* to = part_of(cta, begins);
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      to[i * T::kConsumers] =
          make_float4(totals[4 * i], totals[4 * i + 1], totals[4 * i + 2], totals[4 * i + 3]);
    }
  }

  /// Until the other parts are there.
  __device__ __forceinline__ void wait_for_parts(const TallTile& of) const {
    uint32_t* arrivals = p.arrivals + of.first;
    const auto num_parts = static_cast<uint32_t>(of.last - of.first + (of.num_adders > 1 ? 1 : 0));
    if (threadIdx.x == 0) prims::wait_for_arrivals(arrivals, num_parts);
    prims::named_barrier_sync(1, T::kConsumers);
    if (threadIdx.x == 0) {
      prims::leave_arrivals(arrivals, num_parts + static_cast<uint32_t>(of.num_adders));
    }
  }

  static __device__ __forceinline__ void add(float* sums, const float4& part) {
    sums[0] += part.x;
    sums[1] += part.y;
    sums[2] += part.z;
    sums[3] += part.w;
  }

  /// The only adder, who has the first channels: the others' parts are added to its own.
  __device__ __forceinline__ void add_others(const TallTile& of, float (&totals)[T::kSums]) const {
#pragma unroll 1
    for (int other = of.first + 1; other <= of.last; ++other) {
      const float4* from = part_of(other, false);
      float4 parts[kGroups];
#pragma unroll
      for (int i = 0; i < kGroups; ++i) parts[i] = __ldcg(from + i * T::kConsumers);
#pragma unroll
      for (int i = 0; i < kGroups; ++i) add(totals + 4 * i, parts[i]);
    }
  }

  /// One of several adders: all parts of eight tokens, its own among them.
  __device__ __forceinline__ void add_all(const TallTile& of, int i, float (&sums)[4]) const {
#pragma unroll
    for (float& sum : sums) sum = 0.0F;
#pragma unroll 1
    for (int first = of.first; first <= of.last; first += kAtOnce) {
      float4 parts[kAtOnce];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        const int other = first + j;
        parts[j] = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
        if (other > of.last) continue;
        parts[j] = __ldcg(part_of(other, other < of.first + of.num_adders) + i * T::kConsumers);
      }
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        if (first + j <= of.last) add(sums, parts[j]);
      }
    }
  }

  __device__ __forceinline__ void run(float (&totals)[T::kSums], const TallTile& of) const {
    const bool is_joined = of.last > of.first;
    const bool is_only = of.num_adders == 1;
    const bool is_adder = cta < of.first + of.num_adders;
    if (is_joined && !(is_adder && is_only)) {
      leave_part(totals, is_adder);
      prims::named_barrier_sync(1, T::kConsumers);
      if (threadIdx.x == 0) prims::arrive_at(p.arrivals + of.first);
      if (!is_adder) return;
    }
    if (is_joined) wait_for_parts(of);
    const GemmArgs& args = p.of.args;
    const formats::cuda::FragmentTarget target{args.out, args.out_stride, args.out_is_bf16,
                                               args.blocks.n, args.rows};
    const int row = of.first_row + static_cast<int>(threadIdx.x) / 32 * 16;
    if (!is_joined || is_only) {
      if (is_joined) add_others(of, totals);
      add_bias(args, row, totals);
      target.store(totals, row, of.first_token);
      return;
    }
    const int end = kGroups * (cta - of.first + 1) / of.num_adders;
#pragma unroll 1
    for (int i = kGroups * (cta - of.first) / of.num_adders; i < end; ++i) {
      float sums[4];
      add_all(of, i, sums);
      add_bias(args, row, sums);
      target.store(sums, row, of.first_token + 8 * i);
    }
  }
};

#endif

}  // namespace comet::formats::w4a16_cuda::wgmma
