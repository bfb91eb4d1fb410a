// Learning rate over a run: linear warm-up, then half a cosine (Loshchilov, Hutter 2017), by step.
// Callers: loop.
#pragma once

#include "comet/train/recipe/recipe.h"

namespace comet::train {

/// Of optimizer step `step` (from 0) when an epoch has `steps_per_epoch`.
double learning_rate(const Recipe& recipe, int64_t step, int64_t steps_per_epoch);

}  // namespace comet::train
