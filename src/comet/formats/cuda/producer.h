// Producers of a linear's input on CUDA: a source of FP32 rows (given rows, RMSNorm with residual,
// SiLU·mul) into a sink (BF16 rows, 8-bit codes, w4ax codes), by one kernel. Callers: the CUDA
// halves of the formats. Pointers are device pointers, strides count elements, channels of a
// row are neighbours; any k from 1 to 131,072 and any alignment (k, strides and pointers that are
// multiples of 8 elements take the quick path). Launches throw CudaError; zero rows launch nothing.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace comet::formats::cuda {

enum class FloatType : int32_t { kBf16, kF32 };

/// Rows [rows, k] of floats.
struct FloatRows {
  const void* data = nullptr;
  int64_t stride = 0;
  FloatType type = FloatType::kBf16;
};

enum class SourceKind : int32_t {
  kRows,  // x
  kNorm,  // x (F32) += other (delta; data null: none), in place; x · rsqrt(mean(x²) + eps) · weight
  kSiluMul,  // silu(x) · other
};

/// Where the FP32 rows come from.
struct RowSource {
  SourceKind kind = SourceKind::kRows;
  int64_t rows = 0;
  int64_t k = 0;
  FloatRows x;      // kRows: the rows; kNorm: F32, updated where there is a delta; kSiluMul: gate
  FloatRows other;  // kNorm: delta or null; kSiluMul: up
  const float* weight = nullptr;  // [k]; kNorm only
  float eps = 0.0F;               // kNorm only
};

/// BF16 rows, rounded to nearest even (dense, w4a16).
struct Bf16Sink {
  void* out = nullptr;
  int64_t stride = 0;
};

/// 8-bit codes with one scale per row (w8a8). Codes of channels k … k_padded − 1 are 0.
struct CodeSink {
  void* codes = nullptr;     // [rows, k_padded]
  int64_t k_padded = 0;      // row stride of codes, at least k
  float* scales = nullptr;   // of row r: scales[r · scale_stride]
  int64_t scale_stride = 1;  // elements
  float static_scale = 0;    // > 0: the checkpoint's scale of every row instead of absmax/limit
};

/// Spans of w4ax scales: S1, S2, S2h (docs/formats.md §2.4).
enum class BlockScale : int32_t { kBlock, kSegment, kSegmentRotated };

/// Codes of blocks of 128 channels in stored order (w4ax), A4 values in bytes.
struct BlockSink {
  int8_t* codes = nullptr;        // [rows, blocks · 128]
  float* scales = nullptr;        // [rows, blocks] (kBlock) or [rows, 2]
  const int32_t* perm = nullptr;  // [blocks · 128] source channel, −1 = zero; null = identity
  int64_t blocks = 0;
  int64_t int4_blocks = 0;  // the INT8 segment starts here
  float clip = 1.0F;        // A4: a = clip · absmax
  BlockScale scale = BlockScale::kSegment;
};

void produce_bf16(const RowSource& source, const Bf16Sink& sink, CUstream_st* stream);
/// E4M3 codes, scale absmax/448.
void produce_e4m3(const RowSource& source, const CodeSink& sink, CUstream_st* stream);
/// s8 codes in [−127, 127], scale absmax/127.
void produce_int8(const RowSource& source, const CodeSink& sink, CUstream_st* stream);
void produce_w4ax(const RowSource& source, const BlockSink& sink, CUstream_st* stream);

}  // namespace comet::formats::cuda
