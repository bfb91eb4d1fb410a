// Random and constant contents for synthetic weights: out[i] is a pure function of (seed, stream,
// i), the one that ops/fill/fill.cpp uses on the CPU. Grid: each thread writes 16 bytes (8
// elements of 16 bits, 16 bytes) at a time, over the grid. Floor: the bytes of out at write rate;
// each 64-bit draw (two mixes, some 30 instructions) makes 4 elements, or 16 nibbles, so writing
// stays the bound.
#include "comet/ops/fill/cuda/fill.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "comet/device/cuda/cuda_check.h"
#include "comet/device/cuda/rng.cuh"

namespace comet::ops_cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 132 * 16;
constexpr int kStoreBytes = 16;

/// Four bytes of kind kS8 or kE4M3 from one draw, the first in the low byte.
__device__ __forceinline__ uint32_t bytes_of_draw(RandomKind kind, uint64_t bits) {
  uint32_t word = 0;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const auto part = static_cast<uint32_t>(bits >> (16 * j)) & 0xFFFF;
    const uint32_t byte =
        kind == RandomKind::kE4M3 ? (part & 0x8F) | 0x30 : (part % 255 - 127) & 0xFF;
    word |= byte << (8 * j);
  }
  return word;
}

/// The 32-bit word number `word_idx` of the result.
__device__ __forceinline__ uint32_t random_word(const RandomFillArgs& args, uint64_t key,
                                                uint64_t word_idx) {
  switch (args.kind) {
    case RandomKind::kTable16: {  // two elements: half of a draw
      const uint64_t bits = rng_bits(key, word_idx / 2 * 4) >> (word_idx % 2 * 32);
      return args.table[bits % kRandomTableSize] |
             static_cast<uint32_t>(args.table[(bits >> 16) % kRandomTableSize]) << 16;
    }
    case RandomKind::kS8:
    case RandomKind::kE4M3:
      return bytes_of_draw(args.kind, rng_bits(key, word_idx * 4));
    case RandomKind::kNibbles:
      return static_cast<uint32_t>(rng_bits(key, word_idx / 2) >> (word_idx % 2 * 32));
  }
  return 0;
}

__global__ void __launch_bounds__(kThreads)
    random_fill_kernel(RandomFillArgs args, uint64_t key, int64_t num_bytes) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  const int64_t num_stores = (num_bytes + kStoreBytes - 1) / kStoreBytes;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < num_stores;
       i += step) {
    uint32_t words[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) words[j] = random_word(args, key, static_cast<uint64_t>(i) * 4 + j);
    if ((i + 1) * kStoreBytes <= num_bytes) {
      static_cast<uint4*>(args.out)[i] = make_uint4(words[0], words[1], words[2], words[3]);
      continue;
    }
    for (int64_t at = i * kStoreBytes; at < num_bytes; ++at) {  // the last, cut
      const auto within = static_cast<int>(at - i * kStoreBytes);
      uint32_t word = words[0];
#pragma unroll
      for (int j = 1; j < 4; ++j) word = within / 4 == j ? words[j] : word;
      static_cast<uint8_t*>(args.out)[at] = static_cast<uint8_t>(word >> (8 * (within % 4)));
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    fill_words_kernel(uint32_t* out, uint32_t word, int64_t num_words) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < num_words;
       i += step) {
    out[i] = word;
  }
}

unsigned num_blocks(int64_t num_items) {
  return static_cast<unsigned>(std::min(kMaxBlocks, (num_items + kThreads - 1) / kThreads));
}

}  // namespace

void launch_random_fill(const RandomFillArgs& args, CUstream_st* stream) {
  if (args.count == 0) return;
  const int64_t num_bytes = args.kind == RandomKind::kTable16 ? 2 * args.count : args.count;
  const int64_t num_stores = (num_bytes + kStoreBytes - 1) / kStoreBytes;
  random_fill_kernel<<<num_blocks(num_stores), kThreads, 0, stream>>>(
      args, rng_key(args.seed, args.stream), num_bytes);
  COMET_CUDA(cudaGetLastError());
}

void launch_fill_words(void* out, uint32_t word, int64_t num_words, CUstream_st* stream) {
  if (num_words == 0) return;
  fill_words_kernel<<<num_blocks(num_words), kThreads, 0, stream>>>(static_cast<uint32_t*>(out),
                                                                    word, num_words);
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::ops_cuda
