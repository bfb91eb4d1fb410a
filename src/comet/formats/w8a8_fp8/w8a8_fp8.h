// Format "w8a8-fp8": E4M3 weights with one scale per output channel, E4M3 activations with one
// dynamic scale per token (docs/formats.md §1); on disk compressed-tensors' "float-quantized".
// Called through the registry. Tensors: w8a8/channel_codes.h.
#pragma once

#include "comet/formats/format.h"

namespace comet::formats {

const WeightFormat& w8a8_fp8_format();
/// Without kernels in a build without CUDA.
const FormatBackend& w8a8_fp8_cuda_backend();

namespace w8a8_fp8 {

/// Order of Activation::parts: codes F8_E4M3 [rows, k], scales F32 [rows].
enum ActivationSlot { kCodes, kScales };

std::span<const LinearKernel> kernels();

}  // namespace w8a8_fp8
}  // namespace comet::formats
