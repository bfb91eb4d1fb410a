// Host glue of the CUDA producers: from tensors to launches, and the input of formats that multiply
// floats on CUDA (dense, w4a16): BF16 rows [rows, k] as parts[0]. Callers: the formats'
// backend_cuda.cpp. Rows that are BF16 and contiguous already are passed on, not copied.
#pragma once

#include "comet/formats/cuda/producer.h"
#include "comet/formats/format.h"

namespace comet::formats {

Activation cuda_float_input_from_rows(Context& ctx, const LinearWeight& weight, ConstRows x);
Activation cuda_float_input_from_norm(Context& ctx, const LinearWeight& weight,
                                      const NormInput& input);
Activation cuda_float_input_from_silu_mul(Context& ctx, const LinearWeight& weight,
                                          const SiluMulInput& input);

namespace cuda {

// The source of a producer; shapes and types are checked against the linear's k.
RowSource rows_source(const LinearWeight& weight, ConstRows x);
RowSource norm_source(const LinearWeight& weight, const NormInput& input);
RowSource silu_mul_source(const LinearWeight& weight, const SiluMulInput& input);

/// A backend whose inputs are Produce(ctx, weight, source), whatever the source.
template <Activation (*Produce)(Context&, const LinearWeight&, const RowSource&)>
FormatBackend backend_of(std::span<const LinearKernel> kernels,
                         Status (*prepare)(Context&, LinearWeight&)) {
  return {
      .input_from_rows = [](Context& ctx, const LinearWeight& weight,
                            ConstRows x) { return Produce(ctx, weight, rows_source(weight, x)); },
      .input_from_norm =
          [](Context& ctx, const LinearWeight& weight, const NormInput& input) {
            return Produce(ctx, weight, norm_source(weight, input));
          },
      .input_from_silu_mul =
          [](Context& ctx, const LinearWeight& weight, const SiluMulInput& input) {
            return Produce(ctx, weight, silu_mul_source(weight, input));
          },
      .kernels = kernels,
      .prepare = prepare};
}

}  // namespace cuda
}  // namespace comet::formats
