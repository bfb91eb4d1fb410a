// Optimizer: AdamW over a network's ParameterSet, with a moving average of the weights and a guard:
// a step whose gradients are not finite changes nothing. Callers: trainer, checkpoint.
#pragma once

#include <vector>

#include "comet/nn/training/parameters.h"
#include "comet/train/recipe/recipe.h"

namespace comet::train {

/// The flat state beside the weights, of the host: what a checkpoint holds. Averages are empty
/// without ema_decay.
struct OptimizerState {
  std::vector<float> first, second, average, average_buffers;
};

class Optimizer {
 public:
  Optimizer(Context& ctx, const Recipe& recipe, nn::ParameterSet& set);

  /// Before the first forward pass of a step, `num_updates` of which were made before: gradients
  /// are zero, buffers are remembered.
  void begin_step(Context& ctx, double lr, int64_t num_updates);
  /// One update with the gradients at begin_step()'s rate; false: they were not finite, nothing has
  /// changed and the buffers are those of begin_step().
  bool end_step(Context& ctx, int64_t num_updates);
  /// Norm of the last step's gradients.
  [[nodiscard]] double grad_norm() const { return grad_norm_; }

  [[nodiscard]] bool has_average() const { return average_.defined(); }
  [[nodiscard]] const Tensor& average() const { return average_; }
  /// The network takes the averages, and again its own: for evaluation between steps.
  void swap_average(Context& ctx);

  [[nodiscard]] OptimizerState state(Context& ctx) const;
  /// Sizes must fit.
  void set_state(Context& ctx, const OptimizerState& state);
  /// The average begins as the weights are.
  void start_average(Context& ctx);

 private:
  void update(Context& ctx, bool decayed);

  const Recipe& recipe_;
  nn::ParameterSet& set_;
  Tensor first_, second_, average_, average_buffers_;
  Tensor buffers_before_;
  Tensor squared_norm_;
  Tensor schedule_;  // of AdamWSettings
  Tensor finite_;    // [1] 0: the guard of copies that always happen
  double grad_norm_ = 0;
};

}  // namespace comet::train
