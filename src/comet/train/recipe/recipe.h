// Recipe: everything that decides what a training run computes, as a JSON file has it (docs/
// vision.md). Two runs with one recipe, one data folder and one seed give the same weights.
// Callers: loop, apps.
#pragma once

#include <string>

#include "comet/base/json.h"
#include "comet/models/vision/training/trainable_vision.h"
#include "comet/train/augment/augment.h"

namespace comet::train {

struct Recipe {
  std::string architecture = "inception_next_atto";
  /// "" as the architecture has it, or "7x7", "3x3" (any odd size): a depthwise convolution of all
  /// channels in InceptionNeXt's mixers, for studies.
  std::string mixer;
  int64_t image_size = 224;
  int64_t epochs = 100;
  int64_t batch_size = 128;      // of one forward pass
  int64_t grad_accum_steps = 1;  // forward passes of an optimizer step
  uint64_t seed = 42;

  double lr = 1e-3;  // at the top; no scaling by batch size is done
  double min_lr = 1e-6;
  double warmup_lr = 1e-6;
  double warmup_epochs = 5;
  double weight_decay = 0.05;  // of tensors with more than one axis
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double clip_grad = 0;  // largest norm of all gradients; 0: any

  double label_smoothing = 0.1;
  double mixup = 0;  // alpha of the Beta distribution; 0: none
  double cutmix = 0;
  double mixup_prob = 1.0;         // of a batch to be mixed
  double mixup_switch_prob = 0.5;  // of CutMix where both are on
  double drop_path = 0;            // of the last block; earlier ones in proportion
  double ema_decay = 0;            // 0: no moving average of the weights

  double scale_low = 0.08, scale_high = 1.0;  // RandomResizedCrop: share of the area
  double ratio_low = 0.75, ratio_high = 4.0 / 3.0;
  double flip = 0.5;
  std::string rand_augment;  // as timm writes it; "": none
  double random_erasing = 0;
  double crop_pct = 0.875;  // of validation
};

/// Fields absent keep the defaults; a field that is unknown, of the wrong type or out of range is
/// an error that names it.
Result<Recipe> parse_recipe(const Json& json, const std::string& source);
OrderedJson to_json(const Recipe& recipe);
/// "lr is 0.001, was 0.002; …" for what a resumed run has otherwise; empty: nothing.
std::string recipe_difference(const Recipe& now, const Recipe& before);

/// The network of a recipe.
Result<models::TrainableVisionConfig> network_of(const Recipe& recipe, int64_t num_classes);
Result<AugmentSettings> augment_settings_of(const Recipe& recipe);

}  // namespace comet::train
