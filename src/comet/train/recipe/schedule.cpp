#include "comet/train/recipe/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace comet::train {

double learning_rate(const Recipe& recipe, int64_t step, int64_t steps_per_epoch) {
  const double total = static_cast<double>(recipe.epochs * steps_per_epoch);
  const double warmup =
      std::min(total, recipe.warmup_epochs * static_cast<double>(steps_per_epoch));
  const auto at = static_cast<double>(step);
  if (at < warmup) return recipe.warmup_lr + (recipe.lr - recipe.warmup_lr) * at / warmup;
  const double share = std::min(1.0, (at - warmup) / std::max(1.0, total - warmup));
  return recipe.min_lr +
         (recipe.lr - recipe.min_lr) * 0.5 * (1 + std::cos(std::numbers::pi * share));
}

}  // namespace comet::train
