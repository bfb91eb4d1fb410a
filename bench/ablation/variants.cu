// Kernels of variants.h: the sm_80 kernel with its way to weights, or its pipeline, replaced.
#include "bench/ablation/variants.h"

#include <type_traits>

#include "comet/base/check.h"
#include "comet/formats/w4ax/cuda/sm80/gemm_sm80.cuh"
#include "comet/formats/w4ax/layout.h"

namespace comet::bench {
namespace {

namespace w4ax = formats::w4ax;
using w4ax::cuda::GemmArgs;
using w4ax::cuda::Place;
using w4ax::cuda::Sm80Operands;
using w4ax::cuda::Sm80Plan;

constexpr int kRowBytes = 64;  // of a block's row

/// Nibble i of a word, sign-extended, in the low byte.
__device__ __forceinline__ uint32_t extend(uint32_t word, int i) {
  return static_cast<uint32_t>(static_cast<int32_t>(word << (28 - 4 * i)) >> 28) & 0xFFU;
}

/// The four nibbles first, first + step, … of a word as bytes.
__device__ __forceinline__ uint32_t extend_four(uint32_t word, int first, int step) {
  return extend(word, first) | extend(word, first + step) << 8 |
         extend(word, first + 2 * step) << 16 | extend(word, first + 3 * step) << 24;
}

/// Four neighbouring channels of a row, 2 bytes → bytes of 16·q, in order.
__device__ __forceinline__ uint32_t spread_by_16(uint32_t pair) {
  return __byte_perm(pair << 4 & 0xF0F0U, pair & 0xF0F0U, 0x5140);
}

/// As deep as the shipped kernel, or one step at a time.
constexpr int num_stages(int tokens, bool has_pipeline) {
  if (!has_pipeline) return 1;
  if (tokens == 16) return 8;
  return tokens == 64 ? 5 : 4;
}

template <int kTokens, bool kConversion, bool kPipeline, bool kPacking>
struct Variant : w4ax::cuda::Sm80Traits<kTokens, num_stages(kTokens, kPipeline), false> {
  using Base = w4ax::cuda::Sm80Traits<kTokens, num_stages(kTokens, kPipeline), false>;
  static constexpr int kBytesShift = kConversion ? 4 : 0;

  static __device__ __forceinline__ void load_bytes(const uint8_t* stage, int unit, int half,
                                                    int lane, uint32_t (&low)[4],
                                                    uint32_t (&high)[4]) {
    if constexpr (!kPacking) {
      load_rows(stage, unit, half, lane, low, high);
    } else if constexpr (kConversion) {
      Base::load_bytes(stage, unit, half, lane, low, high);
    } else {
      const uint4 raw = Base::load_nibbles(stage, unit, half, lane);
      const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        low[r] = extend_four(words[r], 0, 2);
        high[r] = extend_four(words[r], 1, 2);
      }
    }
  }

  static __device__ __forceinline__ void load_rows(const uint8_t* stage, int unit, int half,
                                                   int lane, uint32_t (&low)[4],
                                                   uint32_t (&high)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int row = unit * 16 + lane / 4 + r % 2 * 8;
      const uint8_t* at = stage + row * kRowBytes + half * 32 + r / 2 * 8 + lane % 4 * 2;
      low[r] = convert(*reinterpret_cast<const uint16_t*>(at));
      high[r] = convert(*reinterpret_cast<const uint16_t*>(at + 16));
    }
  }

  static __device__ __forceinline__ uint32_t convert(uint32_t pair) {
    if constexpr (kConversion) return spread_by_16(pair);
    return extend_four(pair, 0, 1);
  }

  template <class T, class Step>
  static __device__ __forceinline__ void for_each_block(const Sm80Operands& operands,
                                                        const Place& at, uint8_t* shared,
                                                        const Step& step) {
    if constexpr (kPipeline) {
      Base::template for_each_block<T>(operands, at, shared, step);
    } else {
      w4ax::cuda::Sm80Loader<T> loader(operands, at);
#pragma unroll 1
      for (int block = at.begin; block < at.end; ++block) {
        loader.load_weights(shared);
        loader.load_codes(shared);
        prims::cp_async_commit();
        prims::cp_async_wait<0>();
        __syncthreads();
        step(block, shared);
        __syncthreads();
      }
    }
  }
};

template <bool kConversion, bool kPipeline, bool kPacking>
void launch(const GemmArgs& args, const Sm80Plan& plan, void* workspace, int32_t* counters,
            CUstream_st* stream) {
  const Sm80Operands operands{args, nullptr};
  const auto run = [&]<int kTokens>(std::integral_constant<int, kTokens> /*tokens*/) {
    w4ax::cuda::launch_sm80<Variant<kTokens, kConversion, kPipeline, kPacking>>(
        operands, plan.schedule, workspace, counters, stream);
  };
  switch (plan.tile_tokens) {
    case 16:
      return run(std::integral_constant<int, 16>());
    case 64:
      return run(std::integral_constant<int, 64>());
    default:
      return run(std::integral_constant<int, 128>());
  }
}

using Launch = void (*)(const GemmArgs& args, const Sm80Plan& plan, void* workspace,
                        int32_t* counters, CUstream_st* stream);

struct Row {
  AblationFeatures features;
  Launch launch;
};

/// Feature by feature, then the whole without conversion and without pipeline.
constexpr Row kRows[] = {{{false, false, false}, launch<false, false, false>},
                         {{true, false, false}, launch<true, false, false>},
                         {{true, true, false}, launch<true, true, false>},
                         {{true, true, true}, launch<true, true, true>},
                         {{false, true, true}, launch<false, true, true>},
                         {{true, false, true}, launch<true, false, true>}};

const Row* find_row(const AblationFeatures& wanted) {
  for (const Row& row : kRows) {
    const AblationFeatures& has = row.features;
    if (has.has_conversion == wanted.has_conversion && has.has_pipeline == wanted.has_pipeline &&
        has.has_packing == wanted.has_packing) {
      return &row;
    }
  }
  return nullptr;
}

}  // namespace

bool has_variant(const AblationFeatures& features) { return find_row(features) != nullptr; }

void launch_variant(const AblationFeatures& features, const GemmArgs& args, const Sm80Plan& plan,
                    void* workspace, int32_t* counters, CUstream_st* stream) {
  const Row* row = find_row(features);
  COMET_CHECK(row != nullptr, "the ablation has no kernel of these features");
  row->launch(args, plan, workspace, counters, stream);
}

void pack_by_rows(const uint8_t* tile128, uint8_t* by_rows, int64_t num_blocks) {
  for (int64_t block = 0; block < num_blocks; ++block) {
    const uint8_t* from = tile128 + block * w4ax::kTileBytes;
    uint8_t* to = by_rows + block * w4ax::kTileBytes;
    for (int64_t i = 0; i < w4ax::kTileBytes; ++i) {
      uint8_t byte = 0;
      for (int64_t upper = 0; upper < 2; ++upper) {
        const w4ax::NibblePosition p =
            w4ax::nibble_position(i / kRowBytes, i % kRowBytes * 2 + upper, 1);
        byte = static_cast<uint8_t>(byte | (from[p.byte] >> p.shift & 15) << 4 * upper);
      }
      to[i] = byte;
    }
  }
}

}  // namespace comet::bench
