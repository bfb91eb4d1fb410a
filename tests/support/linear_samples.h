// Random linears of every registered format, for the conformance suite and kernel tests. A sample
// knows its weights as float64 in the stored order of channels, computed without the format's code.
#pragma once

#include <string>
#include <vector>

#include "comet/base/rng.h"
#include "support/tensor_map.h"

namespace comet::testing {

/// What a random w4ax weight looks like.
struct W4axShape {
  std::vector<int64_t> part_rows{128};
  int64_t k = 128;
  int64_t int8_blocks = 0;
  formats::ActScale scale = formats::ActScale::kS2;
  formats::Granularity granularity = formats::Granularity::kChannel;
  bool permuted = true;
  bool has_bias = false;
  float clip = 0.9F;
};

formats::QuantizedWeight random_w4ax(const W4axShape& shape, uint64_t seed);
formats::QuantizedWeight random_w4a16(const std::vector<int64_t>& part_rows, int64_t k,
                                      DType scale_type, bool has_bias);
/// The quantization_config that names exactly this linear.
Json w4ax_config(const formats::QuantizedWeight& weight, const formats::PackedLinear& packed);
/// pack → bind, as a checkpoint would do it; `tensors` receives what was packed.
formats::LinearWeight bind_w4ax(const formats::QuantizedWeight& weight, TensorMap& tensors);

struct LinearSample {
  std::string label;
  formats::LinearWeight weight;
  std::vector<formats::QuantizedWeight> quantized;  // one, or none (dense)
  std::vector<double> dequantized;                  // [n, stored channels]
  int64_t stored_k = 0;
  bool exact = true;         // kernels must give the reference's bits
  bool float_input = false;  // inputs are not quantized
  double budget = 1e-5;      // relative error of the output against FP32 inputs
};

/// Groups of every size, zero points, orders of channels, types of scales.
void add_w4a16_samples(std::vector<LinearSample>& samples);
std::vector<LinearSample> linear_samples();

}  // namespace comet::testing
