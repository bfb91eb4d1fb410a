// Fills device memory for synthetic weights, with the very values that ops/fill/fill.cpp draws on
// the CPU. Callers: `--synthetic` on CUDA, and benches. Pointers are device pointers, 16-byte
// aligned where said; launches throw CudaError.
#pragma once

#include <cstdint>

#include "comet/ops/fill/random_kind.h"

struct CUstream_st;

namespace comet::ops_cuda {

using comet::kRandomTableSize;
using comet::RandomKind;

struct RandomFillArgs {
  RandomKind kind = RandomKind::kTable16;
  void* out = nullptr;  // 16-byte aligned
  int64_t count = 0;    // elements: 16-bit ones of kTable16, else bytes
  uint64_t seed = 0;
  uint64_t stream = 0;
  const uint16_t* table = nullptr;  // [kRandomTableSize], kTable16 only
};
void launch_random_fill(const RandomFillArgs& args, CUstream_st* stream);

/// out[0 … num_words − 1] = word: a constant of 32 bits, or the same 16 or 8 bits repeated.
void launch_fill_words(void* out, uint32_t word, int64_t num_words, CUstream_st* stream);

}  // namespace comet::ops_cuda
