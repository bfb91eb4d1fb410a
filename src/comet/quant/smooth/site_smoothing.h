// SmoothQuant of one layer at all four sites: strength per site, fixed or searched, folded into
// what stands before the site: norms, V rows (one factor for the query heads of a KV head), up
// rows. Callers: layer_stage.
#pragma once

#include "comet/quant/layer/layer_stage.h"

namespace comet::quant {

/// Folds factors into stage.layer and notes strengths in stage.smoothing. o_in and down_in come
/// first: they change rows of the linears behind the norms. Norms keep values of their stored type,
/// so that the files of the format mean the same to readers that round norms to it.
void smooth_sites(LayerStage& stage);

}  // namespace comet::quant
