#include "comet/train/recipe/mixing.h"

#include <algorithm>
#include <cmath>

namespace comet::train {
namespace {

double uniform_above_zero(Rng& rng) {
  return (static_cast<double>(rng.next_bits() >> 11) + 0.5) * 0x1p-53;
}

/// Gamma(alpha, 1) by Marsaglia and Tsang (2000); for alpha < 1 from alpha + 1.
double draw_gamma(double alpha, Rng& rng) {
  if (alpha < 1) {
    const double factor = std::pow(uniform_above_zero(rng), 1 / alpha);
    return draw_gamma(alpha + 1, rng) * factor;
  }
  const double d = alpha - 1.0 / 3.0;
  const double c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = rng.next_normal();
    const double cube = std::pow(1 + c * x, 3);
    const double u = uniform_above_zero(rng);
    if (cube > 0 && std::log(u) < x * x / 2 + d - d * cube + d * std::log(cube)) return d * cube;
  }
}

double draw_beta(double alpha, Rng& rng) {
  const double a = draw_gamma(alpha, rng);
  const double b = draw_gamma(alpha, rng);
  return a + b > 0 ? a / (a + b) : 0.5;
}

/// A box of 1 − share of the area around a drawn centre, cut off at the image's edges.
Mix draw_box(int64_t size, double share, Rng& rng) {
  const auto side = static_cast<int64_t>(static_cast<double>(size) * std::sqrt(1 - share));
  const auto bound = static_cast<uint64_t>(size);
  const auto y = static_cast<int64_t>(rng.next_below(bound));
  const auto x = static_cast<int64_t>(rng.next_below(bound));
  Mix mix;
  mix.input.top = std::max<int64_t>(0, y - side / 2);
  mix.input.bottom = std::min(size, y + side / 2);
  mix.input.left = std::max<int64_t>(0, x - side / 2);
  mix.input.right = std::min(size, x + side / 2);
  const int64_t area = (mix.input.bottom - mix.input.top) * (mix.input.right - mix.input.left);
  mix.share = 1 - static_cast<double>(area) / static_cast<double>(size * size);
  return mix;
}

}  // namespace

Mix draw_mix(const Recipe& recipe, Rng& rng) {
  const bool mixed = double{rng.next_uniform()} < recipe.mixup_prob;
  const bool switched = double{rng.next_uniform()} < recipe.mixup_switch_prob;
  if (!mixed || (recipe.mixup <= 0 && recipe.cutmix <= 0)) return {};
  const bool cut = recipe.cutmix > 0 && (recipe.mixup <= 0 || switched);
  if (cut) return draw_box(recipe.image_size, draw_beta(recipe.cutmix, rng), rng);
  Mix mix;
  mix.share = draw_beta(recipe.mixup, rng);
  mix.input.mixup_share = static_cast<float>(mix.share);
  return mix;
}

std::vector<float> soft_targets(std::span<const int32_t> labels, int64_t num_classes,
                                double smoothing, double share) {
  const double off = smoothing / static_cast<double>(num_classes);
  const double on = 1 - smoothing;
  std::vector<float> targets(labels.size() * static_cast<size_t>(num_classes),
                             static_cast<float>(off));
  for (size_t i = 0; i < labels.size(); ++i) {
    float* row = targets.data() + i * static_cast<size_t>(num_classes);
    const int32_t own = labels[i];
    const int32_t other = labels[labels.size() - 1 - i];
    row[own] = static_cast<float>(off + on * (own == other ? 1.0 : share));
    if (other != own) row[other] = static_cast<float>(off + on * (1 - share));
  }
  return targets;
}

std::vector<float> draw_keep(int64_t num_blocks, int64_t num_images, double last_rate, Rng& rng) {
  std::vector<float> keep;
  for (int64_t block = 0; block < num_blocks; ++block) {
    const double rate = num_blocks > 1 ? last_rate * static_cast<double>(block) /
                                             static_cast<double>(num_blocks - 1)
                                       : last_rate;
    for (int64_t i = 0; i < num_images; ++i) {
      const bool kept = double{rng.next_uniform()} >= rate;
      keep.push_back(kept ? static_cast<float>(1 / (1 - rate)) : 0.0F);
    }
  }
  return keep;
}

}  // namespace comet::train
