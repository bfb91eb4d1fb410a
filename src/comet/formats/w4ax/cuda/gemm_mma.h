// The w4ax product on CUDA through mma.m16n8k32 (sm_80 and later): arguments, plan, launch. Any
// granularity, scale mode, INT8 share and number of tokens; every result has the bits of
// reference_linear (docs/formats.md §1). Callers: backend_cuda.cpp, tests.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace comet::formats::w4ax::cuda {

enum class WeightKind : int32_t { kChannel, kGroup, kProgressive };  // as Granularity

/// 128 stored rows: output channels column … column + num_rows − 1, then padding.
struct OutputTile {
  int32_t column = 0;
  int32_t num_rows = 0;
};

/// One linear times the codes of some tokens; device pointers, 16-byte aligned; layouts as in
/// w4ax.h and layout.h.
struct GemmArgs {
  WeightKind kind = WeightKind::kChannel;
  const uint8_t* packed = nullptr;        // [num_tiles, blocks, 8192]
  const float* channel_scale = nullptr;   // [num_tiles · 128]; null for group
  const uint16_t* group_scale = nullptr;  // [blocks, num_tiles · 128] F16; group only
  const uint8_t* multiplier = nullptr;    // [blocks, num_tiles · 128]; progressive only
  const int8_t* offset = nullptr;         // likewise; every u·g + o fits in 8 bits
  const float* bias = nullptr;            // [n] or null
  const OutputTile* tiles = nullptr;      // [num_tiles]
  int32_t num_tiles = 0;
  int32_t blocks = 0;
  int32_t int4_blocks = 0;    // the INT8 segment starts here
  bool block_scales = false;  // S1: x_scales has a scale per block, else two
  bool out_is_bf16 = false;
  int32_t tokens = 0;
  const int8_t* codes = nullptr;    // [tokens, blocks · 128]
  const float* x_scales = nullptr;  // [tokens, blocks] or [tokens, 2]
  void* out = nullptr;              // [tokens, n] of F32 or BF16, rows out_stride elements apart
  int64_t out_stride = 0;
};

constexpr bool has_two_segments(const GemmArgs& args) {
  return args.int4_blocks > 0 && args.int4_blocks < args.blocks;
}

/// What a launch takes beside its arguments; decided from shapes alone.
struct GemmPlan {
  int32_t tile_tokens = 0;  // of a CTA, beside 128 rows
  int32_t num_splits = 1;   // of K
  int64_t workspace_bytes = 0;
  bool starts_early = false;  // sm_90 only: weights are read while the kernel before ends
};

/// Counters of a weight, zero before the first launch; every launch leaves them zero.
constexpr int64_t kNumCounters = 1024;

GemmPlan plan_gemm(const GemmArgs& args, int num_sms);
/// `workspace`: plan.workspace_bytes, 16-byte aligned. Throws CudaError.
void gemm_mma(const GemmArgs& args, const GemmPlan& plan, void* workspace, int32_t* counters,
              CUstream_st* stream);

}  // namespace comet::formats::w4ax::cuda
