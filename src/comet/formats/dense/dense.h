// Format "dense": BF16, F16 or F32 weights as Hugging Face stores them, one tensor per part
// (prefix + part + ".weight" [n_i, k]); inputs are FP32 rows. Called through the registry.
// tensors: the parts' weights, then (has_bias) the parts' biases.
#pragma once

#include "comet/formats/format.h"

namespace comet::formats {

const WeightFormat& dense_format();
/// Without kernels in a build without CUDA.
const FormatBackend& dense_cuda_backend();

/// The kernel rows, best last (cpu/gemm_rows.cpp).
std::span<const LinearKernel> dense_kernels();

}  // namespace comet::formats
