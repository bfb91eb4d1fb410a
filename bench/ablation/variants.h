// The forms of the sm_80 kernel that the ablation times. Caller: ablation_cuda.cpp. All give the
// same bits; s8 products for INT8 and INT4 blocks alike, so that a card without INT4 tensor cores
// shows what each feature is worth.
#pragma once

#include "comet/formats/w4ax/cuda/sm80/gemm_sm80.h"

namespace comet::bench {

/// What a variant has. Absent features:
/// conversion: each nibble is extended by two shifts and put into its byte, not shifted and masked
///   four at a time into 16 times its value;
/// pipeline: a step is read, waited for, and multiplied, not read several steps ahead;
/// packing: weights lie by rows, two nibbles of neighbouring channels a byte, so that a lane reads
///   its fragments by 2 bytes and not by 16.
struct AblationFeatures {
  bool has_conversion = true;
  bool has_pipeline = true;
  bool has_packing = true;
};

/// Whether the kernel is compiled: as few as the ablation asks for.
bool has_variant(const AblationFeatures& features);

/// args.packed is in tile128, or by rows (pack_by_rows) without packing.
void launch_variant(const AblationFeatures& features, const formats::w4ax::cuda::GemmArgs& args,
                    const formats::w4ax::cuda::Sm80Plan& plan, void* workspace, int32_t* counters,
                    CUstream_st* stream);

/// Blocks of tile128, 8,192 bytes each, as 128 rows of 64 bytes.
void pack_by_rows(const uint8_t* tile128, uint8_t* by_rows, int64_t num_blocks);

}  // namespace comet::bench
