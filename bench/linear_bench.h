// One linear of a model's shape, with random weights, timed by rotating through copies that exceed
// the caches. Caller: `comet bench gemm`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comet/formats/format.h"

namespace comet::bench {

/// "llama3-8b.gate_up": a fused linear of a published model.
struct LinearShape {
  std::string name;
  std::vector<int64_t> part_rows;
  int64_t k = 0;
};

struct LinearBenchOptions {
  std::string format = "w4ax";
  formats::Granularity granularity = formats::Granularity::kGroup;  // w4ax only, as is the next
  formats::ActScale act_scale = formats::ActScale::kS2;
  double int8_share = 1.0;                  // INT8 blocks over all blocks, rounded up
  int64_t rotate_bytes = int64_t{5} << 28;  // weights that a measurement passes over
  int repeats = 5;
  uint64_t seed = 0;
};

/// Weights of this shape: enough copies to exceed the caches.
Result<std::vector<formats::LinearWeight>> make_copies(Context& ctx, const LinearShape& shape,
                                                       const LinearBenchOptions& options);

struct LinearTiming {
  double us = 0;        // the product alone
  double input_us = 0;  // making its input from FP32 rows
};

/// The best mean over a pass through the copies (a part of them where one pass is long).
LinearTiming time_linear(Context& ctx, const std::vector<formats::LinearWeight>& copies,
                         const formats::LinearKernel& kernel, int64_t rows, int repeats);

}  // namespace comet::bench
