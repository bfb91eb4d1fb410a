// Fills device memory for synthetic weights, with the very values that models/synthetic.cpp draws
// on the CPU. Callers: `--synthetic` on CUDA, and benches. Pointers are device pointers, 16-byte
// aligned where said; launches throw CudaError.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace comet::ops_cuda {

/// Which values: element i comes from part i % 4 (16 bits) of bits(i − i % 4), unless said.
enum class RandomKind : int32_t {
  kTable16,  // table[part % 4096], 16-bit elements: BF16 of any distribution
  kS8,       // part % 255 − 127, bytes
  kE4M3,     // (part & 0x8F) | 0x30, bytes: ±[½, 2)
  kS8Each,   // bits(i) % 255 − 127, bytes: a draw for each (lm_head)
  kNibbles,  // byte i % 8 of bits(i / 8): uniform nibbles, in whatever order a format packs them
};

constexpr int64_t kRandomTableSize = 4096;

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
