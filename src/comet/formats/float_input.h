// The input of formats that multiply floats (dense, w4a16): FP32 rows in the model's order of
// channels, as parts[0] [rows, k]; and biases of any float type. Callers: those formats' records,
// references and kernel rows.
#pragma once

#include "comet/formats/format.h"

namespace comet::formats {

Activation float_input_from_rows(Context& ctx, const LinearWeight& weight, ConstRows x);
Activation float_input_from_norm(Context& ctx, const LinearWeight& weight, const NormInput& input);
Activation float_input_from_silu_mul(Context& ctx, const LinearWeight& weight,
                                     const SiluMulInput& input);

/// Element i of a BF16, F16 or F32 tensor.
float float_element(const Tensor& tensor, int64_t i);
/// All elements of several, one tensor behind the other.
std::vector<float> float_elements(std::span<const Tensor> tensors);
/// out[:, column + i] += bias[i].
void add_bias(Context& ctx, const Tensor& bias, View<float, 2> out, int64_t column);

}  // namespace comet::formats
