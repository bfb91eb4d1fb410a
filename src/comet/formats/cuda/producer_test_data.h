// What the producers' tests share: permutations, sinks, calls. Callers: the CUDA tests of this
// folder.
#pragma once

#include <numeric>
#include <utility>
#include <vector>

#include "comet/base/rng.h"
#include "comet/formats/cuda/producer.h"

namespace comet::formats::cuda {

constexpr float kClip = 0.85F;

struct BlockCase {
  BlockScale scale = BlockScale::kSegment;
  int64_t int8_blocks = 0;
  bool permuted = false;
};

/// Of [k_padded] stored positions: each of k channels once, −1 elsewhere.
inline std::vector<int32_t> random_perm(int64_t k, int64_t k_padded) {
  Rng rng(static_cast<uint64_t>(k));
  std::vector<int32_t> perm(static_cast<size_t>(k_padded), -1);
  std::iota(perm.begin(), perm.begin() + k, 0);
  for (size_t i = perm.size(); i > 1; --i) std::swap(perm[i - 1], perm[rng.next_below(i)]);
  return perm;
}

/// Of rows of k channels, with device pointers.
inline BlockSink block_sink(const BlockCase& c, int64_t k, int8_t* codes, float* scales,
                            const int32_t* perm) {
  BlockSink sink;
  sink.codes = codes;
  sink.scales = scales;
  sink.perm = c.permuted ? perm : nullptr;
  sink.blocks = (k + 127) / 128;
  sink.int4_blocks = sink.blocks - c.int8_blocks;
  sink.clip = kClip;
  sink.scale = c.scale;
  return sink;
}

inline void produce_bytes(const RowSource& source, const CodeSink& sink, bool is_e4m3) {
  if (is_e4m3) {
    produce_e4m3(source, sink, nullptr);
  } else {
    produce_int8(source, sink, nullptr);
  }
}

}  // namespace comet::formats::cuda
