// RandAugment (Cubuk et al. 2020) as timm configures it by a text such as "rand-m9-mstd0.5-inc1":
// num_layers operations drawn with replacement from fifteen, each applied with probability 1/2, its
// magnitude drawn around m. Callers: augment.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "comet/base/rng.h"
#include "comet/io/image/image.h"

namespace comet::train {

struct RandAugment {
  double magnitude = 9;      // m: 0 to 10
  double magnitude_std = 0;  // mstd: a normal deviation; above 100, uniform in [0, m]
  int num_layers = 2;        // n
  bool increasing = false;   // inc: severity grows with magnitude for every operation
  double probability = 0.5;  // p: of each operation
  /// Of pixels that an operation uncovers; ImageNet's mean.
  std::array<uint8_t, 3> fill = {124, 116, 104};
};

/// The error lists what may stand in the text.
Result<RandAugment> parse_rand_augment(std::string_view text);

/// Changes the image by draws of `rng`.
void rand_augment(io::Image& image, const RandAugment& settings, Rng& rng);

/// The operations by timm's names, with their arguments from a magnitude: for tests and for seeing
/// what one does. `negative` is the sign that some draw.
constexpr int kNumRandAugmentOps = 15;
std::string_view rand_augment_op_name(int op_idx);
void apply_rand_augment_op(io::Image& image, int op_idx, double magnitude, bool negative,
                           bool bicubic, const RandAugment& settings);

}  // namespace comet::train
