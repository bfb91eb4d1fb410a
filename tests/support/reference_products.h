// Products by plain loops on the GPU, in FP64 or in exact integers and without tensor cores: what
// kernels are compared with over all outputs of LLaMA's linears, where a CPU would take minutes.
// Callers: *_llama_cuda_test.cpp, which first hold these to the CPU's definition on a sample.
// Pointers are device pointers; functions only launch on `stream`.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace comet::testing {

/// Σ x·w of every output in FP64, and Σ |x·w|, by which rounding is measured: both [rows, n].
struct FloatSums {
  double* sums = nullptr;
  float* sizes = nullptr;
};

/// 4-bit weights as compressed-tensors lays them, all parts one below the other.
struct PackedWeight {
  const uint32_t* words = nullptr;  // [n, k_stored / 8]; nibble i of a word is channel 8j + i
  const float* scales = nullptr;    // [n, k_stored / group]
  const uint8_t* zeros = nullptr;   // the same; null: all 8
  int32_t k_stored = 0;
  int32_t group = 128;
  bool is_rounded = false;  // weights are BF16(scale · code)
};

/// x BF16 [rows, k], k at most k_stored.
void launch_packed_sums(const PackedWeight& weight, const uint16_t* x, int32_t rows, int32_t n,
                        int32_t k, const FloatSums& out, cudaStream_t stream);
/// x [rows, k] and w [n, k] of E4M3, rows x_stride and w_stride bytes apart.
struct E4m3Codes {
  const uint8_t* x = nullptr;
  const uint8_t* w = nullptr;
  int64_t x_stride = 0;
  int64_t w_stride = 0;
};
void launch_e4m3_sums(const E4m3Codes& codes, int32_t rows, int32_t n, int32_t k,
                      const FloatSums& out, cudaStream_t stream);

/// One linear of w4ax and the codes of some tokens (layouts: formats/w4ax/w4ax.h, layout.h).
struct W4axOperands {
  const uint8_t* packed = nullptr;        // [num_tiles, blocks, 8192]
  const float* channel_scale = nullptr;   // [num_tiles · 128]; null: the group's scale counts
  const uint16_t* group_scale = nullptr;  // [blocks, num_tiles · 128] F16, or null
  const uint8_t* multiplier = nullptr;    // progressive: [blocks, num_tiles · 128], else null
  const int8_t* offset = nullptr;         // likewise
  int32_t num_tiles = 0;                  // each of 128 outputs
  int32_t blocks = 0;
  int32_t int4_blocks = 0;
  bool block_scales = false;        // S1: x_scales [tokens, blocks], else [tokens, 2]
  const int8_t* codes = nullptr;    // [tokens, blocks · 128]
  const float* x_scales = nullptr;  // see block_scales
  int32_t tokens = 0;
};
/// y [tokens, num_tiles · 128] as docs/formats.md §1 says; `codes8` [num_tiles · 128, blocks · 128]
/// is scratch for q_w, or u·g + o.
void launch_w4ax_reference(const W4axOperands& operands, int8_t* codes8, float* y,
                           cudaStream_t stream);

/// What a kernel wrote, F32 or BF16 [rows, n] with rows out_stride elements apart.
struct Outputs {
  const void* data = nullptr;
  bool is_bf16 = false;
  int64_t stride = 0;
  int32_t rows = 0;
  int32_t n = 0;
};
/// Outputs that are not bit for bit `want` [rows, n] (rounded to BF16 where they are), or columns
/// behind n that are not NaN, are counted in counts[0]; counts[1] is the least place of one. Both
/// are set first.
void launch_count_different(const Outputs& out, const float* want, uint64_t* counts,
                            cudaStream_t stream);
/// How an output y = row_scale · column_scale · Σ may miss it: factor · (size + 1) or, where
/// `absolute` is above 0, that much; and half an ulp of BF16 where outputs are BF16.
struct FloatWant {
  FloatSums sums;
  const float* row_scale = nullptr;     // [rows · row_scale_stride], null: 1
  const float* column_scale = nullptr;  // [n], null: 1
  int32_t row_scale_stride = 1;
  double factor = 0;
  double absolute = 0;
};
void launch_count_far(const Outputs& out, const FloatWant& want, uint64_t* counts,
                      cudaStream_t stream);
/// max |row_scale · column_scale · Σ| into *largest, which is set first.
void launch_largest(const FloatWant& want, int32_t rows, int32_t n, float* largest,
                    cudaStream_t stream);

}  // namespace comet::testing
