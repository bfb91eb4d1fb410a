// The consumers of gemm_wgmma.cuh: products of a CTA's blocks. Callers: gemm_wgmma.cu.
//
// A pair of warpgroups multiplies a block, 64 rows each, or a tall tile's two blocks one after the
// other; of several pairs each takes every kPairs-th block.
// A block: nibbles → 8 fragments, 8 products in batches; the fragments of a batch are made while
// the batch before it is multiplied. Fragments are
// - Form::kScaled: weights, BF16(scale · code), all on one set of sums;
// - else exact integers, on zeroed sums; then total += scale · sums (FP32, one fma per group):
//   products of an integer and a BF16 value are exact, so the result is that of FP32 sums.
#pragma once

#include "comet/device/cuda/prims/wgmma.cuh"
#include "comet/device/cuda/prims/wgmma_bf16.cuh"
#include "comet/formats/w4a16/cuda/gemm_wgmma.cuh"

namespace comet::formats::w4a16_cuda::wgmma {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// What a lane reads of a block with one group, ahead of its products.
template <class Factors>
struct LaneBlockOf {
  uint32_t words[8];  // nibbles of fragment 0 … 7
  Factors factors;
};
using LaneBlock = LaneBlockOf<GroupFactors>;
using ScaledLaneBlock = LaneBlockOf<ScaledFactors>;

/// Stages of the block that is multiplied.
struct Stages {
  StageIndex weights;
  StageIndex inputs;
};

template <class T>
struct Consumer {
  const Params& p;
  const Shared<T>& shared;
  const uint8_t* own_weights;  // of stage 0
  const uint32_t inputs_low;   // of stage 0: wgmma_low_k128()
  using Sums = float[T::kSums];
  using Batch = uint32_t[T::kBatch][4];

  __device__ __forceinline__ Consumer(const Params& params, const Shared<T>& of,
                                      const uint8_t* weights)
      : p(params), shared(of), own_weights(weights), inputs_low(low_of(of.inputs)) {}

  /// Opaque and the same in all lanes, or ptxas reads the CTA's place in the cluster for each item.
  static __device__ __forceinline__ uint32_t low_of(const uint8_t* inputs) {
    uint32_t low = prims::wgmma_low_k128(inputs);
    prims::keep(low);
    return __shfl_sync(0xFFFFFFFF, low, 0);
  }

  /// The pair of this thread, so that the compiler sees that a warp has one.
  static __device__ __forceinline__ int pair() {
    if constexpr (T::kPairs == 1) return 0;
    return __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 256, 0);
  }
  static __device__ __forceinline__ int unit() {  // of 16 rows in the block
    return static_cast<int>(threadIdx.x) / 32 % 8;
  }
  static __device__ __forceinline__ int row() {  // of the block
    return unit() * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
  }
  /// Its turn among the pairs that take stages in turn.
  static __device__ __forceinline__ int turn() { return T::kTurns == 1 ? 0 : pair(); }
  /// What this pair reads of a stage.
  __device__ __forceinline__ const uint8_t* block_at(int stage) const {
    return own_weights + stage * (T::kIsTall ? T::kStageBytes : p.stage_bytes);
  }
  __device__ __forceinline__ void advance(Stages& at) const {
    if constexpr (T::kOneRing) {
      at.weights.advance(1, T::kInputStages);
    } else {
      at.weights.advance(T::kTurns, p.num_stages);
      at.inputs.advance(T::kTurns, T::kInputStages);
    }
  }
  __device__ __forceinline__ void wait_weights(const Stages& at) const {
    prims::mbarrier_wait(shared.full_weights + at.weights.stage, at.weights.parity);
  }
  __device__ __forceinline__ void wait_inputs(const Stages& at) const {
    if constexpr (T::kOneRing) return;
    prims::mbarrier_wait(shared.full_inputs + at.inputs.stage, at.inputs.parity);
  }
  static __device__ __forceinline__ int input_stage(const Stages& at) {
    return T::kOneRing ? at.weights.stage : at.inputs.stage;
  }
  __device__ __forceinline__ void release(int stage) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) prims::mbarrier_arrive(shared.empty + stage);
  }

  static __device__ __forceinline__ int words_at() {  // of this lane, in the block
    return (unit() * 32 + static_cast<int>(threadIdx.x) % 32) * 16;
  }
  static __device__ __forceinline__ void read_words(uint32_t (&words)[8], const uint8_t* own) {
    const auto* from = reinterpret_cast<const uint4*>(own);
#pragma unroll
    for (int half = 0; half < 2; ++half) {  // 64 channels of 8 units: 4 KiB
      const uint4 four = from[half * 256];
      words[4 * half] = four.x;
      words[4 * half + 1] = four.y;
      words[4 * half + 2] = four.z;
      words[4 * half + 3] = four.w;
    }
  }

  __device__ __forceinline__ LaneBlock read(int stage) const {
    const uint8_t* block = block_at(stage);
    LaneBlock lane;
    read_words(lane.words, block + words_at());
    lane.factors = group_factors<T::kGroups>(block, p.args.blocks, 0, row());
    return lane;
  }

  static __device__ __forceinline__ void make_batch(Batch& a, const LaneBlock& block, int batch) {
#pragma unroll
    for (int j = 0; j < T::kBatch; ++j) {
      dequantize(a[j], block.words[batch * T::kBatch + j], block.factors.offsets);
    }
  }

  /// sums (+)= kCount fragments from `first` on · inputs of the stage.
  template <int kCount>
  __device__ __forceinline__ void multiply(Sums& sums, uint32_t (&a)[kCount][4], int input_stage,
                                           int first, bool is_first) const {
#pragma unroll
    for (int j = 0; j < kCount; ++j) prims::wgmma_pin(a[j]);
    const uint32_t low = inputs_low + input_stage * (T::kInputBytes / 16);
    const uint64_t base = prims::wgmma_descriptor_of_low_k128(low);
    prims::wgmma_fence();
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const uint32_t bytes = (first + j) / 4 * T::kBoxBytes + (first + j) % 4 * 32;
      prims::WgmmaBf16<T::kTokens>::rs(sums, a[j], base + bytes / 16, is_first && j == 0 ? 0 : 1);
    }
    prims::wgmma_commit();
  }

  static __device__ __forceinline__ void promote(Sums& totals, const Sums& sums,
                                                 const float (&scales)[2]) {
#pragma unroll
    for (int i = 0; i < T::kSums; ++i) {
      totals[i] = __fmaf_rn(scales[i % 4 / 2], sums[i], totals[i]);
    }
  }

  // ---- Scaled weights

  __device__ __forceinline__ ScaledLaneBlock read_scaled(int stage, int own_words,
                                                         int own_scales) const {
    const uint8_t* block = block_at(stage);
    ScaledLaneBlock lane;
    read_words(lane.words, block + own_words);
    lane.factors = scaled_factors(reinterpret_cast<const uint16_t*>(block + own_scales));
    return lane;
  }

  static __device__ __forceinline__ void make_scaled(Batch& a, const ScaledLaneBlock& block,
                                                     int batch) {
#pragma unroll
    for (int j = 0; j < T::kBatch; ++j) {
      dequantize_scaled(a[j], block.words[batch * T::kBatch + j], block.factors);
    }
  }

  /// The sums of num_items > 0 items from `at` on, which is then the item behind them. A batch of
  /// products is under way from an item to the next. An item is read before the one before it is
  /// through, and where inputs come with weights also the one behind the last, of another tile or
  /// of none: not to ask whether there is one spares instructions.
  __device__ __forceinline__ void scaled(Sums& totals, Stages& at, int num_items) const {
#pragma unroll
    for (float& total : totals) total = 0.0F;
    prims::wgmma_pin(totals);  // zeros are made here, not between products
    int own_words = words_at();
    int own_scales = kWordBytes + row() * 2;
    prims::keep(own_words);  // or they are worked out for each item
    prims::keep(own_scales);
    Batch a[2];
    wait_weights(at);
    ScaledLaneBlock block = read_scaled(at.weights.stage, own_words, own_scales);
    make_scaled(a[0], block, 0);
    int last_stage = kMaxStages;  // none: a barrier that no one waits for
#pragma unroll 2
    for (int item = 0; item < num_items; ++item) {
      wait_inputs(at);
      const int stage = at.weights.stage;
      const int inputs = input_stage(at);
      multiply(totals, a[0], inputs, 0, false);
      prims::wgmma_wait<1>();  // the item before is through
      release(last_stage);
      make_scaled(a[1], block, 1);
      multiply(totals, a[1], inputs, T::kBatch, false);
      last_stage = stage;
      if (T::kOneRing || item + 1 < num_items) advance(at);  // else this block again
      wait_weights(at);
      block = read_scaled(at.weights.stage, own_words, own_scales);
      prims::wgmma_wait<1>();  // a[0] have been read
      make_scaled(a[0], block, 0);
    }
    prims::wgmma_wait<0>();
    prims::wgmma_pin(totals);
    release(last_stage);
    if constexpr (!T::kOneRing) advance(at);
#pragma unroll
    for (float& total : totals) total *= kScaledUp;
  }

  // ---- Groups of 128 channels, one set of sums

  /// The products of an item, the first batch of which is in a[0].
  __device__ __forceinline__ void multiply_item(Sums& sums, Batch (&a)[2], const LaneBlock& block,
                                                int input_stage) const {
#pragma unroll
    for (int batch = 0; batch < T::kBatches; ++batch) {
      if (batch >= 2) prims::wgmma_wait<1>();  // the batch that read these registers is through
      if (batch >= 1) make_batch(a[batch % 2], block, batch);
      multiply(sums, a[batch % 2], input_stage, batch * T::kBatch, batch == 0);
    }
  }

  __device__ __forceinline__ void one_sum(Sums& totals, int num_items) const {
    Stages at{{turn(), 0}, {turn(), 0}};
    Sums sums;
    Batch a[2];
    wait_weights(at);
    LaneBlock block = read(at.weights.stage);
    make_batch(a[0], block, 0);
#pragma unroll 1
    for (int item = 0; item < num_items; ++item) {
      wait_inputs(at);
      multiply_item(sums, a, block, input_stage(at));
      const int stage = at.weights.stage;
      if (item + 1 < num_items) advance(at);  // else this block again
      const float scales[2] = {block.factors.scales[0], block.factors.scales[1]};
      wait_weights(at);
      block = read(at.weights.stage);
      prims::wgmma_wait<0>();
      prims::wgmma_pin(sums);
      make_batch(a[0], block, 0);
      release(stage);
      promote(totals, sums, scales);
    }
  }

  // ---- Groups of 128 channels, two sets of sums

  /// Two items: the sums of the first are added while the second is multiplied. On entry and on
  /// return nothing is under way (else ptxas serializes all products), and a[0] are the first
  /// fragments of `block`.
  __device__ __forceinline__ void two_items(Sums& totals, Stages& at, LaneBlock& block,
                                            Batch (&a)[2], bool has_next) const {
    Sums first;
    Sums second;
    multiply(first, a[0], at.inputs.stage, 0, true);
    make_batch(a[1], block, 1);
    multiply(first, a[1], at.inputs.stage, T::kBatch, false);
    const float first_scales[2] = {block.factors.scales[0], block.factors.scales[1]};
    const int first_stage = at.weights.stage;
    advance(at);
    wait_weights(at);
    wait_inputs(at);
    block = read(at.weights.stage);
    prims::wgmma_wait<1>();  // a[0] have been read
    make_batch(a[0], block, 0);
    multiply(second, a[0], at.inputs.stage, 0, true);
    prims::wgmma_wait<1>();  // the first item is through
    prims::wgmma_pin(first);
    make_batch(a[1], block, 1);
    multiply(second, a[1], at.inputs.stage, T::kBatch, false);
    release(first_stage);
    promote(totals, first, first_scales);
    const float second_scales[2] = {block.factors.scales[0], block.factors.scales[1]};
    const int second_stage = at.weights.stage;
    if (has_next) advance(at);  // else this block again
    wait_weights(at);
    block = read(at.weights.stage);
    prims::wgmma_wait<0>();
    prims::wgmma_pin(second);
    make_batch(a[0], block, 0);
    release(second_stage);
    promote(totals, second, second_scales);
  }

  __device__ __forceinline__ void two_sums(Sums& totals, int num_items) const {
    Stages at{{turn(), 0}, {turn(), 0}};
    Batch a[2];
    wait_weights(at);
    LaneBlock block = read(at.weights.stage);
    make_batch(a[0], block, 0);
#pragma unroll 1
    for (int item = 0; item + 1 < num_items; item += 2) {
      wait_inputs(at);
      two_items(totals, at, block, a, item + 2 < num_items);
    }
    if (num_items % 2 == 0) return;
    wait_inputs(at);
    Sums sums;
    multiply(sums, a[0], at.inputs.stage, 0, true);
    make_batch(a[1], block, 1);
    multiply(sums, a[1], at.inputs.stage, T::kBatch, false);
    prims::wgmma_wait<0>();
    prims::wgmma_pin(sums);
    promote(totals, sums, block.factors.scales);
  }

  // ---- Groups of 32 channels: two products each

  __device__ __forceinline__ void short_groups(Sums& totals, int num_items) const {
    Stages at{{turn(), 0}, {turn(), 0}};
    for (int item = 0; item < num_items; ++item, advance(at)) {
      wait_weights(at);
      wait_inputs(at);
      {
        const uint8_t* block = block_at(at.weights.stage);
        uint32_t words[8];
        read_words(words, block + words_at());
#pragma unroll
        for (int group = 0; group < T::kGroups; ++group) {
          const GroupFactors factors =
              group_factors<T::kGroups>(block, p.args.blocks, group, row());
          Sums sums;
          uint32_t a[2][4];
          dequantize(a[0], words[2 * group], factors.offsets);
          dequantize(a[1], words[2 * group + 1], factors.offsets);
          multiply(sums, a, input_stage(at), 2 * group, true);
          prims::wgmma_wait<0>();
          prims::wgmma_pin(sums);
          promote(totals, sums, factors.scales);
        }
      }
      release(at.weights.stage);
    }
  }

  /// Sums of this pair's blocks.
  __device__ __forceinline__ void run(Sums& totals, int num_blocks) const {
#pragma unroll
    for (int i = 0; i < T::kSums; ++i) totals[i] = 0.0F;
    const int num_own = (num_blocks - turn() + T::kTurns - 1) / T::kTurns;
    if (num_own <= 0) return;
    if constexpr (T::kForm == Form::kScaled) {
      Stages at{{turn(), 0}, {turn(), 0}};
      scaled(totals, at, num_own);
    } else if constexpr (T::kForm == Form::kShortGroups) {
      short_groups(totals, num_own);
    } else if constexpr (T::kTwoSums) {
      two_sums(totals, num_own);
    } else {
      one_sum(totals, num_own);
    }
  }
};

#endif

}  // namespace comet::formats::w4a16_cuda::wgmma
