// The plain operators on CUDA: what each kernel takes, all on one page. Callers: op_table_cuda.cpp,
// the benches, and who fills synthetic weights. Pointers are device pointers, strides count
// elements, elements of a row are neighbours. Any size and alignment is right; 16-byte alignment of
// every row is quick. Launches throw CudaError; nothing is launched for zero rows.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace comet::ops_cuda {

enum class FloatType : int32_t { kF32, kF16, kBF16 };  // in DType's order

/// A matrix of floats; data null where an operator may do without it.
struct FloatRows {
  void* data = nullptr;
  int64_t stride = 0;
  FloatType type = FloatType::kF32;
};

/// Heads [num_tokens, num_heads, head_dim] of floats.
struct FloatHeads {
  void* data = nullptr;
  FloatType type = FloatType::kBF16;
  int64_t num_tokens = 0;
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t token_stride = 0;
  int64_t head_stride = 0;
};

/// out[t] = table[tokens[t]]; a token outside of the table gives a row of NaN.
struct EmbeddingArgs {
  FloatRows out;
  FloatRows table;
  const int32_t* tokens = nullptr;
  int64_t rows = 0;
  int64_t n = 0;
  int64_t vocab = 0;
};
void launch_embedding(const EmbeddingArgs& args, CUstream_st* stream);

/// out[i] = x[row_idxs[i]] + delta[row_idxs[i]], one FP32 sum; an index outside of x gives NaN.
struct GatherRowsArgs {
  FloatRows out;
  FloatRows x;
  FloatRows delta;  // data null: nothing is added
  const int32_t* row_idxs = nullptr;
  int64_t rows = 0;
  int64_t n = 0;
  int64_t num_source_rows = 0;
};
void launch_gather_rows(const GatherRowsArgs& args, CUstream_st* stream);

constexpr int64_t kMaxNormSize = 32768;

/// x += delta in place, then out = x · rsqrt(mean(x²) + eps) · weight; out may be x. n up to
/// kMaxNormSize.
struct RmsNormArgs {
  FloatRows out;
  FloatRows x;
  FloatRows delta;  // data null: nothing is added
  const float* weight = nullptr;
  float eps = 0;
  int64_t rows = 0;
  int64_t n = 0;
};
void launch_rms_norm(const RmsNormArgs& args, CUstream_st* stream);

/// The same norm in place on every head, head_dim up to 512, one weight [head_dim] for all.
void launch_head_rms_norm(const FloatHeads& x, const float* weight, float eps, CUstream_st* stream);

/// x += y.
struct AddArgs {
  FloatRows x;
  FloatRows y;
  int64_t rows = 0;
  int64_t n = 0;
};
void launch_add(const AddArgs& args, CUstream_st* stream);

/// out = gate · sigmoid(gate) · up.
struct SiluMulArgs {
  FloatRows out;
  FloatRows gate;
  FloatRows up;
  int64_t rows = 0;
  int64_t n = 0;
};
void launch_silu_mul(const SiluMulArgs& args, CUstream_st* stream);

constexpr int64_t kMaxRopePairs = 512;

/// Rotates pairs (i, i + head_dim/2) of every head by positions[t] · inv_freq[i], in place.
void launch_rope(const FloatHeads& x, const int32_t* positions, const float* inv_freq,
                 CUstream_st* stream);

/// The transform of docs/formats.md §1 in place on every head, in FP32; head_dim is a power of two
/// up to 512.
void launch_hadamard(const FloatHeads& x, CUstream_st* stream);

/// out = x in out's type, rounded to nearest even.
struct ConvertArgs {
  FloatRows out;
  FloatRows x;
  int64_t rows = 0;
  int64_t n = 0;
};
void launch_convert(const ConvertArgs& args, CUstream_st* stream);

}  // namespace comet::ops_cuda
