// What the copy engine reads: made on the host (gemm_sm90_cuda.cpp), passed to kernels by value.
#pragma once

#include <cuda.h>

#include "comet/formats/w4ax/cuda/gemm_mma.h"

namespace comet::formats::w4ax::cuda {

/// Of gemm_sm90 and its wide tiles.
struct Sm90Maps {
  CUtensorMap codes;       // bytes, boxes of 128 × plan.tile_tokens, 128-byte swizzle
  CUtensorMap packed;      // blocks of 8 KiB
  CUtensorMap multiplier;  // blocks of 128 bytes; these two of progressive weights only
  CUtensorMap offset;
};

/// Codes as bytes, in boxes of 128 × tile_tokens, 128-byte swizzle. Callers: all kernels of sm_90a.
CUtensorMap map_of_codes(const GemmArgs& args, int32_t tile_tokens);

}  // namespace comet::formats::w4ax::cuda
