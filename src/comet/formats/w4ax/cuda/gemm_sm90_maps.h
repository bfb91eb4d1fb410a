// What the copy engine reads for gemm_sm90 and its wide tiles: made by run_gemm_sm90()
// (gemm_sm90_cuda.cpp), passed to kernels by value.
#pragma once

#include <cuda.h>

namespace comet::formats::w4ax::cuda {

struct Sm90Maps {
  CUtensorMap codes;       // bytes, boxes of 128 × plan.tile_tokens, 128-byte swizzle
  CUtensorMap packed;      // blocks of 8 KiB
  CUtensorMap multiplier;  // blocks of 128 bytes; these two of progressive weights only
  CUtensorMap offset;
};

}  // namespace comet::formats::w4ax::cuda
