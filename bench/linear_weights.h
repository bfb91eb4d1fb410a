// One linear of a model's shape with Gaussian weights, in enough copies that rotating through them
// reads memory and not caches. Callers: linear_bench.h and `comet bench gemm`.
#pragma once

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
  int64_t rotate_bytes = int64_t{5} << 28;  // on a CPU: weights that a measurement passes over
  uint64_t seed = 0;
};

/// Planned weights of this shape, on the device: enough copies to exceed the caches.
Result<std::vector<formats::LinearWeight>> make_copies(Context& ctx, const LinearShape& shape,
                                                       const LinearBenchOptions& options);

}  // namespace comet::bench
