// tile128 (layout.h) as kernels read it: sizes, and 4-bit weights → the signed bytes that mma and
// wgmma take. Callers: gemm_mma.cuh, gemm_sm90.cuh.
#pragma once

#include <cstdint>

#include "comet/device/cuda/prims/control.cuh"
#include "comet/formats/w4ax/cuda/gemm_mma.h"

namespace comet::formats::w4ax::cuda {

constexpr int kTileRows = 128;
constexpr int kTileBytes = 8192;
constexpr int kHalfBytes = 4096;  // 64 channels of a tile
constexpr int kUnitBytes = 512;
constexpr int kBlockChannels = 128;

/// Row parameters of one unit for this lane's rows, group and group + 8 (progressive).
struct Levels {
  uint32_t multiplier[2];
  uint32_t offset[2];  // o + 128 in every byte

  __device__ __forceinline__ const Levels& levels() const { return *this; }
};

/// The same as they lie in memory.
struct RawLevels {
  uint32_t multiplier[2];
  int32_t offset[2];

  __device__ __forceinline__ Levels levels() const {
    Levels all;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      all.multiplier[i] = multiplier[i];
      all.offset[i] = static_cast<uint32_t>(offset[i]) * 0x01010101U + 0x80808080U;
    }
    return all;
  }
};

/// `rows`: multipliers of a tile's rows; `offset_bytes` further their offsets. kAsWords: bytes are
/// made words at once, where ptxas would keep them in halves of registers and widen them later:
/// fewer instructions, more registers.
template <bool kAsWords>
__device__ __forceinline__ RawLevels load_raw_levels(const uint8_t* rows, int unit_row, int group,
                                                     int offset_bytes) {
  RawLevels levels;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint8_t* row = rows + unit_row + group + 8 * i;
    levels.multiplier[i] = *row;
    levels.offset[i] = *reinterpret_cast<const signed char*>(row + offset_bytes);
    if constexpr (kAsWords) {
      prims::keep(levels.multiplier[i]);
      prims::keep(levels.offset[i]);
    }
  }
  return levels;
}

__device__ __forceinline__ Levels load_levels(const uint8_t* rows, int unit_row, int group) {
  return load_raw_levels<false>(rows, unit_row, group, kTileRows).levels();
}

/// 16 bytes of a lane → the A fragments of k32 steps 0 (low nibbles) and 1 (high nibbles).
/// Channel, group: 16·q in every byte. Progressive: u·g + o; with o + 128 no byte carries into the
/// next, and the xor takes the 128 away again.
template <WeightKind kKind>
__device__ __forceinline__ void expand(const uint4& raw, const Levels& levels, uint32_t (&low)[4],
                                       uint32_t (&high)[4]) {
  const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    if constexpr (kKind == WeightKind::kProgressive) {
      const uint32_t g = levels.multiplier[r & 1];
      const uint32_t o = levels.offset[r & 1];
      low[r] = ((words[r] & 0x0F0F0F0FU) * g + o) ^ 0x80808080U;
      high[r] = ((words[r] >> 4 & 0x0F0F0F0FU) * g + o) ^ 0x80808080U;
    } else {
      low[r] = words[r] << 4 & 0xF0F0F0F0U;
      high[r] = words[r] & 0xF0F0F0F0U;
    }
  }
}

}  // namespace comet::formats::w4ax::cuda
