// The plain operators, the producers of products' inputs and the sampler on a GPU, timed on a
// model's shapes. Caller: `comet bench ops`. Without the CUDA backend calling this is a broken
// promise.
#pragma once

#include <string>
#include <vector>

#include "bench/gpu_timer.h"
#include "comet/io/model_config.h"

namespace comet::bench {

struct OpTiming {
  std::string op;
  int64_t rows = 0;
  double us = 0;
  double bytes = 0;  // read and written if each operand were touched once
  GpuState state;
};

/// Every operator for this number of tokens; buffers rotate beyond L2. Sampling takes at most
/// kMaxSampledRows rows.
std::vector<OpTiming> time_ops(Context& ctx, const io::ModelConfig& config, int64_t rows);

constexpr int64_t kMaxSampledRows = 256;

}  // namespace comet::bench
