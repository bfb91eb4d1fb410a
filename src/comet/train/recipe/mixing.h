// What is drawn for a batch: mixup or CutMix, the soft targets that follow from it, and which
// branches drop path drops. Each is a function of (recipe, seed, position). Callers: loop.
#pragma once

#include <span>
#include <vector>

#include "comet/base/rng.h"
#include "comet/ops/image_input/image_input.h"
#include "comet/train/recipe/recipe.h"

namespace comet::train {

struct Mix {
  ImageInput input;    // without normalization
  double share = 1.0;  // of the own label; that of the opposite image has the rest
};

/// As timm mixes whole batches: λ of Beta(α, α), CutMix's λ corrected to the box that fits.
Mix draw_mix(const Recipe& recipe, Rng& rng);

/// [images, classes]: smoothed labels, mixed with those of the opposite images.
std::vector<float> soft_targets(std::span<const int32_t> labels, int64_t num_classes,
                                double smoothing, double share);

/// keep [blocks, images] of drop path: 0, or 1 / (1 − rate), the rate rising linearly from 0 to
/// `last_rate`.
std::vector<float> draw_keep(int64_t num_blocks, int64_t num_images, double last_rate, Rng& rng);

}  // namespace comet::train
