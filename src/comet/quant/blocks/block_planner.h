// Plans the INT8 blocks of a model before it is quantized (docs/formats.md §2.2). `error` and `kl`
// walk the float model, one layer in memory beside the mapped checkpoint, and measure every site
// with quantized inputs while all other sites stay floats. `error`: the relative output error for
// each number of blocks. `kl`: the same curve, scaled so that without any INT8 block it is the KL
// of the model's predictions; one run of the whole model a site. Callers: quantize_model. The same
// model, text, options and kernel path give the same plan for any number of threads.
#pragma once

#include <functional>

#include "comet/io/checkpoint.h"
#include "comet/ops/context.h"
#include "comet/quant/blocks/block_plan.h"
#include "comet/quant/layer/calibration.h"

namespace comet::quant {

/// Calibration tokens that planning uses at most, in whole samples (at least one).
constexpr int64_t kMaxErrorTokens = 8192;  // error: statistics and clip ratios
constexpr int64_t kMaxKlTokens = 1024;     // kl: logits of the model

/// Evenly spaced samples of `set` with at most `max_tokens` tokens, at least one.
CalibrationSet planning_samples(const CalibrationSet& set, int64_t max_tokens);

/// The plan of options.int8_rule; `ctx` is a CPU's. `on_layer(n)` is called after layer n has been
/// measured; an error of its ends the planning.
Result<BlockPlan> plan_blocks(Context& ctx, const io::Checkpoint& checkpoint,
                              const QuantizeOptions& options, const CalibrationSet& set,
                              const std::function<Status(int64_t)>& on_layer);

}  // namespace comet::quant
