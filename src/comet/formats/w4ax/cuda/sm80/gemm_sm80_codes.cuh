// Codes of the sm_80 kernel: copies to shared memory and B fragments from there, bytes or, for s4
// products, nibbles that are paired: channels b and b + 32 of each 64 in one byte, the low and the
// high half of it, as tile128 pairs weights. Callers: gemm_sm80.cuh, gemm_sm80.cu, bench/ablation.
#pragma once

#include "comet/formats/w4ax/cuda/gemm_mma.cuh"

namespace comet::formats::w4ax::cuda {

constexpr int kPairedBytes = kBlockChannels / 2;  // of a token's INT4 block

struct Sm80Operands {
  GemmArgs gemm;
  const uint8_t* paired_codes = nullptr;  // [tokens, int4_blocks · 64]; tiles of 128 tokens only
};

template <class T>
using Sums = int32_t[T::kUnits][T::kColumns][4];

/// Low nibbles of one word, low nibbles of the other above them.
__device__ __forceinline__ uint32_t pair_nibbles(uint32_t low, uint32_t high) {
  const uint32_t shifted = high << 4;
  return shifted ^ ((low ^ shifted) & 0x0F0F0F0FU);  // a choice of bits: one instruction
}

/// As BlockLoader; codes of INT4 blocks come from where they lie paired, if they do.
template <class T>
struct Sm80Loader : BlockLoader<T> {
  static constexpr int kTokenStep = kNumThreads / 4;  // 4 chunks of 16 bytes a token

  const uint8_t* paired;  // this thread's first token
  int64_t paired_step;    // bytes between this thread's tokens
  int paired_at;          // in a stage
  int num_paired_tokens;  // from this thread's first token on
  int num_int4;           // blocks from here on

  __device__ Sm80Loader(const Sm80Operands& operands, const Place& at)
      : BlockLoader<T>(operands.gemm, at) {
    if constexpr (T::kHasPairedCodes) start_paired(operands, at);
  }

  __device__ void start_paired(const Sm80Operands& operands, const Place& at) {
    const GemmArgs& args = operands.gemm;
    const int token = static_cast<int>(threadIdx.x) / 4;
    const int chunk = static_cast<int>(threadIdx.x) % 4;
    const int64_t row_bytes = static_cast<int64_t>(args.int4_blocks) * kPairedBytes;
    num_int4 = args.int4_blocks - at.begin;
    num_paired_tokens = args.tokens - at.first_token - token;
    paired = operands.paired_codes + at.begin * kPairedBytes + chunk * 16;
    if (num_paired_tokens > 0) paired += (at.first_token + token) * row_bytes;
    paired_step = row_bytes * kTokenStep;
    // 8 tokens × 64 bytes would lie in 4 groups of banks: the token's pair picks the chunk.
    paired_at = T::kCodesAt + token * kPairedBytes + (chunk ^ (token / 2 % 4)) * 16;
  }

  /// The next block's codes into a stage.
  __device__ void load_codes(uint8_t* stage) {
    if constexpr (T::kHasPairedCodes) {
      if (num_int4-- > 0) return load_paired(stage);
    }
    this->load_inputs(stage);
  }

  __device__ void load_paired(uint8_t* stage) {
#pragma unroll
    for (int i = 0; i < T::kTokens / kTokenStep; ++i) {
      const bool is_valid = i * kTokenStep < num_paired_tokens;
      prims::cp_async_16_or_zero(stage + paired_at + i * kTokenStep * kPairedBytes,
                                 paired + (is_valid ? i * paired_step : 0), is_valid);
    }
    paired += kPairedBytes;
    this->codes += kBlockChannels;
  }
};

/// Codes of 8 tokens and 64 channels: b[i] of a lane are channels 16·i + 4·quad … + 3, a byte each.
template <class T>
__device__ __forceinline__ void load_code_bytes(const uint8_t* stage, const Place& at, int half,
                                                int column, uint32_t (&b)[4]) {
  // ldmatrix: lane l names row l % 8 of the 16-byte chunk l / 8 of a half.
  const int row = at.warp_token + column * 8 + at.lane % 8;
  const int chunk = (half * 4 + at.lane / 8) ^ (at.lane % 8);
  prims::ldmatrix_x4(b, stage + T::kCodesAt + row * kBlockChannels + chunk * 16);
}

/// Codes of 8 tokens and 128 channels: b[0], b[1] are the B fragment of the first 64 for s4 mma,
/// b[2], b[3] that of the others.
template <class T>
__device__ __forceinline__ void load_paired_codes(const uint8_t* stage, const Place& at, int column,
                                                  uint32_t (&b)[4]) {
  const int row = at.warp_token + column * 8 + at.lane % 8;
  const int chunk = at.lane / 8 ^ (at.lane % 8 / 2);
  prims::ldmatrix_x4(b, stage + T::kCodesAt + row * kPairedBytes + chunk * 16);
}

}  // namespace comet::formats::w4ax::cuda
