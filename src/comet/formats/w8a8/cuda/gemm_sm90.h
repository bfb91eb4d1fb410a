// The 8-bit product by wgmma (sm_90a): how it is cut for a shape, and its launch. Callers: the CUDA
// backends of w8a8-int and w8a8-fp8, tests, benches.
#pragma once

#include "comet/formats/w8a8/cuda/gemm.h"

namespace comet::formats::w8a8 {

/// CTAs compute tiles of 128 channels × tile_tokens tokens.
struct Sm90Plan {
  int32_t tile_tokens = 16;  // 16, 32, 64, 128; 256 with s8
  int32_t num_splits = 1;    // of k: the CTAs of a cluster, 1 to 8
};

constexpr int32_t kSm90TileChannels = 128;

Sm90Plan plan_gemm_sm90(const GemmArgs& args, int num_sms);

/// `w_map`, `x_map`: CUtensorMaps of the codes as bytes, boxes of 128 bytes × kSm90TileChannels and
/// × plan.tile_tokens, 128-byte swizzle.
void launch_gemm_sm90(const GemmArgs& args, const Sm90Plan& plan, const void* w_map,
                      const void* x_map, CUstream_st* stream);

/// Makes the maps and launches (gemm_sm90_cuda.cpp).
void run_gemm_sm90(const GemmArgs& args, const Sm90Plan& plan, CUstream_st* stream);

}  // namespace comet::formats::w8a8
