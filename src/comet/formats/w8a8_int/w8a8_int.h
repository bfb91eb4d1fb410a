// Format "w8a8-int": s8 weights with one scale per output channel, s8 activations with one dynamic
// scale per token (docs/formats.md §1); on disk compressed-tensors' "int-quantized", and lm_head of
// `--lm-head int8`. Called through the registry. Tensors: w8a8/channel_codes.h.
#pragma once

#include "comet/formats/format.h"

namespace comet::formats {

const WeightFormat& w8a8_int_format();
/// Without kernels in a build without CUDA.
const FormatBackend& w8a8_int_cuda_backend();

namespace w8a8_int {

/// Order of Activation::parts: codes I8 [rows, k_padded] with zeros behind k, scales F32 [rows, 2]
/// (the second counts), sums of codes I32 [rows, k_padded / 128].
enum ActivationSlot { kCodes, kScales, kBlockSums };

std::span<const LinearKernel> kernels();
/// Of weights that may_round, which meet many rows: packed once (cpu/packed/).
std::array<LinearKernel, 2> packed_kernels();
/// Packs a weight that was planned for one of those, and leaves others as they are.
Status prepare_packed(Context& ctx, LinearWeight& weight);

}  // namespace w8a8_int
}  // namespace comet::formats
