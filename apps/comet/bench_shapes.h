// Which linears `comet bench gemm --shapes` names.
#pragma once

#include <string>
#include <vector>

#include "bench/linear_weights.h"

namespace comet::cli {

/// "llama3-8b" = its four linears; "llama3-8b.qkv" (or o, gate_up, down, lm_head) = one of them.
Result<std::vector<bench::LinearShape>> parse_shapes(const std::vector<std::string>& names);

}  // namespace comet::cli
