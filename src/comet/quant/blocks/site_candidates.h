// What a site would lose with n INT8 blocks, for the numbers n that planning looks at. Callers:
// block_planner.
#pragma once

#include <functional>
#include <vector>

#include "comet/quant/layer/layer_stage.h"

namespace comet::quant {

struct SiteCandidate {
  formats::SiteLayout layout;  // with its clip ratio; in the model's own order of FFN channels
  double relative_error = 0.0;
};

/// 0, 1, 2, 3, 4, 6, 8, 12 … (steps of about a third), at last num_blocks.
std::vector<int64_t> candidate_counts(int64_t num_blocks);

/// One candidate for every count. relative_error = ‖(x̂ − x)·Wᵀ‖² / ‖x·Wᵀ‖² over at most 256 rows
/// kept from calibration and 1,024 outputs; the clip ratio is the one of 1, 0.9, 0.8, 0.7 with the
/// least error. `stage` is folded and measured.
std::vector<SiteCandidate> site_candidates(LayerStage& stage, size_t site_idx);

/// values[j] belongs to counts[j]; linear between, for every number of blocks 0 … counts.back().
std::vector<double> interpolated(const std::vector<int64_t>& counts,
                                 const std::vector<double>& values);

}  // namespace comet::quant
