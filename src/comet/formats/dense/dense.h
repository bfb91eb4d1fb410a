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
/// Of weights that may_round, which meet many rows: packed once (cpu/packed_rows.cpp).
LinearKernel dense_packed_kernel();
/// Packs the weight that was planned for that row, and leaves others as they are.
Status dense_cpu_prepare(Context& ctx, LinearWeight& weight);

}  // namespace comet::formats
